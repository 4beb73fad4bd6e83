// Package rule says which of a machine's ttys are published, and how: what a
// Policy's rules match, what their profiles add, who may open and read. It
// decides about one Candidate at a time and remembers nothing; which hardware is
// there, and what its name is, is package inventory's.
package rule

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry/naming"
)

// Busy says what happens to an open of a device that is in use.
type Busy uint8

// The busy policies. BusyDefault is the zero value.
const (
	// BusyDefault: as the device's profile says, else BusyKick.
	BusyDefault Busy = iota
	// BusyKick: the newest consumer wins.
	BusyKick
	// BusyRefuse: the holder keeps the device.
	BusyRefuse
	// BusyWait: who comes later waits, in the order of coming.
	BusyWait
	// BusyShare: all have it. What one of them writes at once, up to 16 KiB, stays
	// together, and they take turns.
	BusyShare
)

// Publish says which devices are published.
type Publish uint8

// The publish policies. PublishKnown is the zero value.
const (
	PublishKnown  Publish = iota // what a rule or Known knows
	PublishAll                   // every tty with hardware behind it
	PublishListed                // what a rule matches
)

// Match selects ttys. Empty fields match everything, a Match without any
// field nothing. VID, PID and Interface are compared without regard to case.
type Match struct {
	VID, PID, Serial, Interface string
	Port                        string // USB port path, "1-1.2"
	// Path is the path of any tty, a PTY or a symbolic link too. It also
	// matches ttys that discovery does not list.
	Path string
}

// Rule says how devices that it matches are published; the first rule that
// matches counts.
type Rule struct {
	Match Match
	// Name is a template over .Node and .Kind; empty: "{{.Node}}-{{.Kind}}".
	Name string
	// Kind is "zwave", "zigbee", ...; empty: what the profile or Known says,
	// else "serial".
	Kind string
	// Profile names the profile whose settings hold where the rule has none;
	// "none": of no profile; empty: of the one that matches the device.
	Profile  string
	Line     line.Settings // zero: as the profile says, else 115200n81
	DTR, RTS line.Drive    // unchanged: as the profile says
	RS485    line.RS485    // zero: off
	Busy     Busy
	Hold     time.Duration // 0: as the profile says, else 15 s
	// MaxStale is how old bytes may be that are replayed after a break; 0: as
	// the profile says, negative: any age, which is also the default.
	MaxStale time.Duration
	// Allow lists who may open the device; empty: every member.
	Allow []identity.NodeID
	// AllowRead lists who else may read along; those of Allow may anyway.
	AllowRead []identity.NodeID
}

// maxRS485Delay is the kernel's limit (RS485_MAX_RTS_DELAY).
const maxRS485Delay = 100 * time.Millisecond

// ProfileNone is the Rule.Profile that turns profiles off.
const ProfileNone = "none"

// Check reports what is wrong with the rule, in the words of the configuration.
func (r Rule) Check() error {
	if r.Match == (Match{}) {
		return fmt.Errorf("check rule: match has no field; give at least one of vid, pid, serial, interface, port, path")
	}
	if !r.Line.IsZero() {
		if err := r.Line.Check(); err != nil {
			return fmt.Errorf("check rule: %w", err)
		}
	}
	for _, delay := range []time.Duration{r.RS485.BeforeSend, r.RS485.AfterSend} {
		if delay < 0 || delay > maxRS485Delay || delay%time.Millisecond != 0 {
			return fmt.Errorf("check rule: rs485 delay of %v; give whole milliseconds from 0 to %v", delay, maxRS485Delay)
		}
	}
	_, err := r.Expand("node", "kind")
	return err
}

// Allows reports whether the peer may open the device.
func (r Rule) Allows(peer identity.NodeID) bool {
	return len(r.Allow) == 0 || slices.Contains(r.Allow, peer)
}

// AllowsRead reports whether the peer is among those who may read along only.
func (r Rule) AllowsRead(peer identity.NodeID) bool { return slices.Contains(r.AllowRead, peer) }

// Expand returns the logical name for a device of this kind on this node.
func (r Rule) Expand(node, kind string) (string, error) {
	text := r.Name
	if text == "" {
		text = "{{.Node}}-{{.Kind}}"
	}
	return naming.Expand(text, node, kind)
}

// Matches reports whether the rule is for c.
func (m Match) Matches(c Candidate) bool {
	if m == (Match{}) {
		return false
	}
	same := func(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
	h := c.Hardware
	return same(m.VID, h.VID) && same(m.PID, h.PID) && same(m.Interface, h.Interface) &&
		(m.Serial == "" || m.Serial == h.Serial) && (m.Port == "" || m.Port == h.Port) &&
		(m.Path == "" || m.Path == c.Path || samePath(m.Path, c.Path))
}

// OnlyPath reports whether the rule names a tty by its path alone, which need
// not be one that discovery lists.
func (m Match) OnlyPath() bool { return m.Path != "" && m == Match{Path: m.Path} }

func samePath(link, path string) bool {
	target, err := filepath.EvalSymlinks(link)
	return err == nil && target == path
}
