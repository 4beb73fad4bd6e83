package rule

import (
	"strings"

	"github.com/serialspan/serialspan/registry"
)

// Candidate is a tty that could be published, as discovery sees it without
// opening it.
type Candidate struct {
	Path     string // "/dev/ttyUSB0"
	Hardware registry.Hardware
	Product  string // for people and profiles, may be empty
	// Manufacturer and Driver ("cp210x") are for profiles; may be empty.
	Manufacturer, Driver string
	// Skip says why the tty must not be published by publish: all, for
	// example "system console"; empty: nothing speaks against it.
	Skip string
}

// KnownUSB tells the kind of devices that are known without a rule: sticks whose
// USB IDs are not shared with other hardware. IDs of bridge chips (CP210x
// 10c4:ea60 and the like) say nothing of what is behind them, so those need a rule
// or a profile.
func KnownUSB(c Candidate) (kind string, ok bool) {
	switch strings.ToLower(c.Hardware.VID + ":" + c.Hardware.PID) {
	case "0658:0200": // Sigma Designs UZB: Aeotec Z-Stick, and others with this ID
		return "zwave", true
	case "1cf1:0030": // dresden elektronik ConBee II
		return "zigbee", true
	}
	return "", false
}
