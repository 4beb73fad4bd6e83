package bridge

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
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
	_, err := r.expand("node", "kind")
	return err
}

func (r Rule) hold() time.Duration {
	if r.Hold <= 0 {
		return session.DefaultHold
	}
	return r.Hold
}

func (r Rule) allows(peer identity.NodeID) bool {
	return len(r.Allow) == 0 || slices.Contains(r.Allow, peer)
}

func (r Rule) allowsRead(peer identity.NodeID) bool { return slices.Contains(r.AllowRead, peer) }

// expand returns the logical name for a device of this kind on this node.
func (r Rule) expand(node, kind string) (string, error) {
	text := r.Name
	if text == "" {
		text = "{{.Node}}-{{.Kind}}"
	}
	return naming.Expand(text, node, kind)
}

// matches reports whether the rule is for c.
func (m Match) matches(c Candidate) bool {
	if m == (Match{}) {
		return false
	}
	same := func(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
	h := c.Hardware
	return same(m.VID, h.VID) && same(m.PID, h.PID) && same(m.Interface, h.Interface) &&
		(m.Serial == "" || m.Serial == h.Serial) && (m.Port == "" || m.Port == h.Port) &&
		(m.Path == "" || m.Path == c.Path || samePath(m.Path, c.Path))
}

// onlyPath reports whether the rule names a tty by its path alone, which need
// not be one that discovery lists.
func (m Match) onlyPath() bool { return m.Path != "" && m == Match{Path: m.Path} }

func samePath(link, path string) bool {
	target, err := filepath.EvalSymlinks(link)
	return err == nil && target == path
}

// KnownUSB is the default of PublisherConfig.Known: sticks whose USB IDs are
// not shared with other hardware. IDs of bridge chips (CP210x 10c4:ea60 and
// the like) say nothing of what is behind them, so those need a rule or a
// profile.
func KnownUSB(c Candidate) (kind string, ok bool) {
	switch strings.ToLower(c.Hardware.VID + ":" + c.Hardware.PID) {
	case "0658:0200": // Sigma Designs UZB: Aeotec Z-Stick, and others with this ID
		return "zwave", true
	case "1cf1:0030": // dresden elektronik ConBee II
		return "zigbee", true
	}
	return "", false
}

// key tells one piece of hardware from another across replugs: by serial
// number where there is one, else by port path, else by path.
func key(c Candidate) string {
	h := c.Hardware
	switch {
	case h.VID != "" && h.Serial != "":
		return strings.Join([]string{"usb", h.VID, h.PID, h.Serial, h.Interface}, ":")
	case h.VID != "":
		return strings.Join([]string{"usb", h.VID, h.PID, "port", h.Port, h.Interface}, ":")
	}
	return "path:" + c.Path
}

// hardwareOf is what the registry says of c.
func hardwareOf(c Candidate) registry.Hardware {
	if c.Hardware == (registry.Hardware{}) {
		return registry.Hardware{Path: c.Path}
	}
	return c.Hardware
}
