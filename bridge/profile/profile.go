package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// ErrProfile is wrapped by every error of this package.
var ErrProfile = errors.New("not valid")

// KindSerial is the kind of what is only known to be a serial port.
const KindSerial = "serial"

// Busy says what happens to an open of a device that is in use. The zero
// value leaves it to the publisher.
type Busy string

// The busy policies; their texts are those of the configuration.
const (
	BusyKick   Busy = "kick"   // the newest consumer wins
	BusyRefuse Busy = "refuse" // the holder keeps the device
	BusyWait   Busy = "wait"   // the newest consumer waits for the holder
	BusyShare  Busy = "share"  // all have it
)

// Limits of a profile: its name, kind and title, in bytes.
const (
	maxName  = 64
	maxKind  = 32
	maxTitle = 100
)

// Profile is what is known about a kind of device. Its zero value knows
// nothing and Check refuses it. Profiles share their slices: change none.
type Profile struct {
	// Name is unique: lower-case letters, digits and '-'.
	Name string
	// Title is what people call it.
	Title string
	// Disabled turns the profile off: Find does not see it. A user's file says so
	// to get rid of a wrong one.
	Disabled bool
	// Matches say which devices it is; at least one, unless Disabled.
	Matches []Match
	// Kind is "zwave", "zigbee", "thread", "board", "modem", "serial".
	Kind string
	// Generic says that Matches know a bridge chip or a make, not a device:
	// it tells how to drive the port, and `publish: known` leaves it alone.
	Generic bool
	// Line is the zero value where nothing is known.
	Line line.Settings
	// DTR and RTS are set once after the open, DTR first.
	DTR, RTS line.Drive
	// Pulse says what the device does when Linux raises DTR and RTS at an
	// open, which cannot be avoided; empty: it does not mind.
	Pulse string
	// MaxStale is how old bytes may be that are replayed after a break; 0:
	// any age.
	MaxStale time.Duration
	Busy     Busy
	// Hold is how long a session outlives its connection; 0: the default.
	Hold time.Duration
	// Recipes are the resets that it knows, each by a name of its own.
	Recipes []Recipe
	// Sources say where the facts come from: addresses or titles; at least
	// one, unless Disabled.
	Sources []string
	// Notes are for people.
	Notes string
}

// Recipe returns the recipe of that name.
func (p Profile) Recipe(name string) (Recipe, bool) {
	i := slices.IndexFunc(p.Recipes, func(r Recipe) bool { return r.Name == name })
	if i < 0 {
		return Recipe{}, false
	}
	return p.Recipes[i], true
}

// Check reports all that is wrong with p, joined; nil if it may be used.
func (p Profile) Check() error {
	var all []error
	wrong := func(format string, args ...any) {
		all = append(all, fmt.Errorf("check profile %.70q: %w: %s", p.Name, ErrProfile, fmt.Sprintf(format, args...)))
	}
	if !validName(p.Name, maxName) {
		wrong("the name must be 1 to %d lower-case letters, digits and '-'", maxName)
	}
	if p.Disabled {
		return errors.Join(all...)
	}
	if !validName(p.Kind, maxKind) {
		wrong("the kind must be 1 to %d lower-case letters, digits and '-', such as zwave, zigbee, thread, board or serial", maxKind)
	}
	if p.Generic && p.Kind != KindSerial {
		wrong("a generic profile is of kind serial, not %q", p.Kind)
	}
	if p.Title == "" || len(p.Title) > maxTitle {
		wrong("the title must have 1 to %d bytes", maxTitle)
	}
	if len(p.Matches) == 0 {
		wrong("it matches nothing; give at least one match")
	}
	for i, m := range p.Matches {
		if err := m.check(); err != nil {
			wrong("match %d: %v", i+1, err)
		}
	}
	if !p.Line.IsZero() {
		if err := p.Line.Check(); err != nil {
			wrong("line: %v", err)
		}
	}
	if p.DTR > line.DriveOff || p.RTS > line.DriveOff {
		wrong("dtr and rts must be on, off or unchanged")
	}
	if p.MaxStale < 0 || p.Hold < 0 {
		wrong("max_stale and hold must not be negative")
	}
	if !slices.Contains([]Busy{"", BusyKick, BusyRefuse, BusyWait, BusyShare}, p.Busy) {
		wrong("busy must be kick, refuse, wait or share, not %q", p.Busy)
	}
	for i, r := range p.Recipes {
		if err := r.Check(); err != nil {
			wrong("%v", err)
		}
		if slices.ContainsFunc(p.Recipes[:i], func(other Recipe) bool { return other.Name == r.Name }) {
			wrong("two recipes are called %q", r.Name)
		}
	}
	if len(p.Sources) == 0 || slices.Contains(p.Sources, "") {
		wrong("it has no source; say where the facts come from")
	}
	return errors.Join(all...)
}

// validName tells whether name is lower-case letters, digits and inner '-'.
func validName(name string, limit int) bool {
	return name != "" && len(name) <= limit && name[0] != '-' && name[len(name)-1] != '-' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		})
}

// CheckSet checks each of the profiles, and that no two have the same name or
// the same match, which would make the order decide.
func CheckSet(profiles []Profile) error {
	var all []error
	names := map[string]bool{}
	owners := map[Match]string{}
	for _, p := range profiles {
		all = append(all, p.Check())
		if names[p.Name] {
			all = append(all, fmt.Errorf("check profile %q: %w: another has that name", p.Name, ErrProfile))
		}
		names[p.Name] = true
		for _, m := range p.Matches {
			if owner, taken := owners[m.folded()]; taken {
				all = append(all, fmt.Errorf("check profile %q: %w: %s also has the match %s", p.Name, ErrProfile, owner, m))
			}
			owners[m.folded()] = p.Name
		}
	}
	return errors.Join(all...)
}

// Overlay returns the profiles over base: those of over first, then those of
// base whose name none of them has.
func Overlay(base, over []Profile) []Profile {
	all := slices.Clone(over)
	for _, p := range base {
		if !slices.ContainsFunc(over, func(o Profile) bool { return o.Name == p.Name }) {
			all = append(all, p)
		}
	}
	return all
}
