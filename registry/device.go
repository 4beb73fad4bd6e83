package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry/naming"
)

// State says what a device is doing, as its owner sees it. The numbers are the
// wire form; they are append-only.
type State uint8

const (
	// StateAvailable: plugged in, and nobody has it open.
	StateAvailable State = iota
	// StateInUse: a session has it open; Device.User says whose.
	StateInUse
	// StateAway: unplugged from its owner, or its owner is not reachable.
	StateAway
	// StateFault: plugged in and cannot be opened; Device.Detail says why.
	StateFault
)

var stateTexts = [...]string{"available", "in-use", "away", "fault"}

// String returns the state's text form; a state of a newer version of the
// software prints as its number.
func (s State) String() string {
	if int(s) < len(stateTexts) {
		return stateTexts[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Hardware tells one piece of hardware from another. For a USB device VID and
// PID are 4 lower-case hexadecimal digits; Port is the port path, for devices
// without a serial number. A device published by a path rule has Path alone.
type Hardware struct {
	VID, PID  string
	Serial    string
	Interface string // bInterfaceNumber, 2 hexadecimal digits
	Port      string // for example "1-1.2"
	Path      string // for example "/dev/ttyS1"
}

// Device is what its owner says of a serial device. It is a value; the
// registry copies what it keeps and what it gives out.
type Device struct {
	// Name is the logical name: 1 to 63 letters, digits, '-', '_' and '.',
	// the first a letter or digit.
	Name         string
	Kind         string            // "zwave", "zigbee", "serial", ...; at most 32 bytes
	Profile      string            // name of the profile that matched, if any; at most 64 bytes
	Hardware     Hardware          // each part at most 128 bytes
	Capabilities []string          // at most 16, each at most 32 bytes
	Line         string            // line settings, "115200n81"; at most 32 bytes
	Labels       map[string]string // at most 16; key and value at most 63 bytes
	State        State
	User         identity.NodeID // who has it open; zero: nobody
	Detail       string          // a sentence for people; cut to 200 bytes
}

// The limits of Device; all of them together stay below maxEntry only for
// devices of common sense, so the total is checked as well.
const (
	maxName         = 63
	maxKind         = 32
	maxProfile      = 64
	maxHardware     = 128
	maxCapabilities = 16
	maxLine         = 32
	maxLabels       = 16
	maxDetail       = 200
)

func (d Device) clone() Device {
	d.Capabilities = slices.Clone(d.Capabilities)
	d.Labels = maps.Clone(d.Labels)
	return d
}

// check reports the first limit that d breaks.
func (d Device) check() error {
	if err := naming.Check(d.Name); err != nil {
		return err
	}
	for _, f := range []struct {
		what, text string
		limit      int
	}{
		{"kind", d.Kind, maxKind}, {"profile", d.Profile, maxProfile}, {"line settings", d.Line, maxLine}, {"detail", d.Detail, maxDetail},
		{"hardware vid", d.Hardware.VID, maxHardware}, {"hardware pid", d.Hardware.PID, maxHardware},
		{"hardware serial", d.Hardware.Serial, maxHardware}, {"hardware interface", d.Hardware.Interface, maxHardware},
		{"hardware port", d.Hardware.Port, maxHardware}, {"hardware path", d.Hardware.Path, maxHardware},
	} {
		if err := checkText(f.what, f.text, f.limit); err != nil {
			return err
		}
	}
	if len(d.Capabilities) > maxCapabilities {
		return fmt.Errorf("%d capabilities, want at most %d", len(d.Capabilities), maxCapabilities)
	}
	for _, c := range d.Capabilities {
		if err := checkText("capability", c, maxKind); err != nil {
			return err
		}
	}
	if len(d.Labels) > maxLabels {
		return fmt.Errorf("%d labels, want at most %d", len(d.Labels), maxLabels)
	}
	for k, v := range d.Labels {
		if err := errors.Join(checkText("label", k, maxName), checkText("label", v, maxName)); err != nil {
			return err
		}
	}
	return nil
}

// checkText refuses what would not fit, and control characters: these texts
// are printed on people's terminals.
func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("%s has %d bytes, want at most %d", what, len(text), limit)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || 0x7f <= c && c < 0xa0 }) {
		return fmt.Errorf("%s contains a control character", what)
	}
	return nil
}

// tidyDetail makes a sentence fit to be published: causes of errors come from
// anywhere and may be long or contain line breaks.
func tidyDetail(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || 0x7f <= c && c < 0xa0 {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxDetail {
		return text
	}
	const ellipsis = "…"
	cut := maxDetail - len(ellipsis)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}
