package profile

import (
	"cmp"
	"errors"
	"strings"
)

// Device is what Linux says of a serial port, as found in sysfs. Empty: not
// known, or not on USB.
type Device struct {
	VID, PID     string // four hexadecimal digits
	Product      string
	Manufacturer string
	Interface    string // bInterfaceNumber, two hexadecimal digits
	Driver       string // "cp210x", "cdc_acm"
}

// Match selects devices: every field that is not empty must fit, regardless of
// case. It is comparable with ==.
type Match struct {
	VID, PID string // four hexadecimal digits
	// Product and Manufacturer are texts that the device's contain.
	Product, Manufacturer string
	Interface             string // two hexadecimal digits
	Driver                string
}

// Matches tells whether d is what m says. A Match without any field matches
// nothing.
func (m Match) Matches(d Device) bool {
	return m != Match{} && fits(m.VID, d.VID) && fits(m.PID, d.PID) && fits(m.Interface, d.Interface) && fits(m.Driver, d.Driver) &&
		contains(d.Product, m.Product) && contains(d.Manufacturer, m.Manufacturer)
}

func fits(want, have string) bool { return want == "" || strings.EqualFold(want, have) }

func contains(have, want string) bool {
	return want == "" || strings.Contains(strings.ToLower(have), strings.ToLower(want))
}

// String returns the fields that are not empty, as in `10c4:ea60 product
// "sonoff"`.
func (m Match) String() string {
	var parts []string
	switch {
	case m.PID != "":
		parts = append(parts, strings.ToLower(m.VID+":"+m.PID))
	case m.VID != "":
		parts = append(parts, strings.ToLower(m.VID+":*"))
	}
	for _, f := range []struct{ name, value string }{{"product", m.Product}, {"manufacturer", m.Manufacturer}, {"interface", m.Interface}, {"driver", m.Driver}} {
		if f.value != "" {
			parts = append(parts, f.name+` "`+f.value+`"`)
		}
	}
	return strings.Join(parts, " ")
}

// folded is m as Matches sees it.
func (m Match) folded() Match {
	for _, text := range []*string{&m.VID, &m.PID, &m.Product, &m.Manufacturer, &m.Interface, &m.Driver} {
		*text = strings.ToLower(*text)
	}
	return m
}

func (m Match) check() error {
	switch {
	case m == Match{}:
		return errors.New("it has no field")
	case m.VID != "" && !hex(m.VID, 4), m.PID != "" && !hex(m.PID, 4):
		return errors.New("vid and pid are four hexadecimal digits in quotes")
	case m.PID != "" && m.VID == "":
		return errors.New("a pid means nothing without its vid")
	case m.Interface != "" && !hex(m.Interface, 2):
		return errors.New("interface is two hexadecimal digits in quotes")
	case m.VID == "" && m.Driver == "":
		return errors.New("give a vid or a driver: texts alone are anyone's")
	}
	return nil
}

func hex(text string, digits int) bool {
	return len(text) == digits && strings.Trim(strings.ToLower(text), "0123456789abcdef") == ""
}

// compare orders matches; see the package comment. The result is above 0
// if m is more specific than o.
func (m Match) compare(o Match) int {
	weight := func(m Match) int {
		w := 0
		for _, field := range []string{m.Product, m.Manufacturer, m.PID, m.VID, m.Interface, m.Driver} {
			w <<= 1
			if field != "" {
				w |= 1
			}
		}
		return w
	}
	return cmp.Or(weight(m)-weight(o), len(m.Product)-len(o.Product), len(m.Manufacturer)-len(o.Manufacturer))
}

// Find returns the profile of d: of those that match, the one with the most
// specific Match, of equal ones the first. False: none is known.
func Find(profiles []Profile, d Device) (Profile, bool) {
	var best Profile
	var why Match
	for _, p := range profiles {
		if p.Disabled {
			continue
		}
		for _, m := range p.Matches {
			if m.Matches(d) && m.compare(why) > 0 {
				best, why = p, m
			}
		}
	}
	return best, why != Match{}
}
