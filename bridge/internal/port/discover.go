package port

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Skip says why a candidate should not be published.
type Skip string

// The reasons to skip a candidate. SkipNone, the zero value: it may be used.
const (
	SkipNone       Skip = ""
	SkipConsole    Skip = "console"     // the kernel writes its messages there
	SkipNoHardware Skip = "no hardware" // a placeholder of the 8250 driver without a chip
)

// Candidate is a serial port that the kernel knows. Texts that come from the
// device are cleaned of control characters; they are empty where it has none.
type Candidate struct {
	Path         string // "/dev/ttyUSB0"
	Name         string // "ttyUSB0", the kernel's name
	VID, PID     string // USB IDs, four lower-case hexadecimal digits; empty: not on USB
	Serial       string // USB serial number
	Manufacturer string
	Product      string
	Interface    string // bInterfaceNumber, two hexadecimal digits
	PortPath     string // where it is plugged in: bus and ports, "1-1.2"
	PortNumber   string // number of the port if an interface has several, else "0"; empty: not of usb-serial
	Driver       string // "ftdi_sio", "cdc_acm", "serial8250"
	Skip         Skip
}

// Discover lists the serial ports of the machine by reading sysfs below the
// given root, normally "/sys", ordered by name with numbers by value. It opens
// no tty. What vanishes while it looks is left out. Terminals without hardware
// behind them (virtual consoles, PTYs) are no candidates.
func Discover(sysfsRoot string) ([]Candidate, error) {
	class := filepath.Join(sysfsRoot, "class", "tty")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list serial ports: %w", err)
	}
	consoles := strings.Fields(attribute(filepath.Join(class, "console"), "active"))
	var found []Candidate
	for _, entry := range entries {
		c, ok := candidate(filepath.Join(class, entry.Name()), entry.Name())
		if !ok {
			continue
		}
		if slices.Contains(consoles, c.Name) {
			c.Skip = SkipConsole
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b Candidate) int { return compareNatural(a.Name, b.Name) })
	return found, nil
}

func candidate(dir, name string) (Candidate, bool) {
	// Most ttys are virtual consoles, and this runs again and again.
	if _, err := os.Readlink(filepath.Join(dir, "device")); err != nil {
		return Candidate{}, false
	}
	tty, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Candidate{}, false
	}
	device, err := filepath.EvalSymlinks(filepath.Join(tty, "device"))
	if err != nil {
		return Candidate{}, false // virtual, or gone
	}
	c := Candidate{Name: name, Path: "/dev/" + name, PortNumber: attribute(device, "port_number")}
	for line := range strings.Lines(attribute(tty, "uevent")) {
		if node, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			c.Path = "/dev/" + node
		}
	}
	if attribute(tty, "type") == "0" {
		c.Skip = SkipNoHardware
	}
	// Upwards: the port, its USB interface, the USB device; or the serial core's
	// ports, then the chip.
	// A Bluetooth port is not the USB dongle that its radio sits on.
	for up := device; c.VID == "" && !isTop(up); up = filepath.Dir(up) {
		if c.Driver == "" {
			c.Driver = driver(up)
		}
		if c.Interface == "" {
			c.Interface = attribute(up, "bInterfaceNumber")
		}
		if c.VID = attribute(up, "idVendor"); c.VID == "" {
			continue
		}
		c.PID = attribute(up, "idProduct")
		c.Serial = attribute(up, "serial")
		c.Manufacturer = attribute(up, "manufacturer")
		c.Product = attribute(up, "product")
		c.PortPath = filepath.Base(up)
	}
	// While a stick is pulled out, the kernel takes the interface's attributes
	// away before the tty: half of it would be another stick.
	return c, c.VID == "" || c.Interface != ""
}

func isTop(dir string) bool {
	return filepath.Base(dir) == "devices" || dir == filepath.Dir(dir) || subsystem(dir) == "bluetooth"
}

// subsystem names the bus or class of a device.
func subsystem(dir string) string {
	target, err := os.Readlink(filepath.Join(dir, "subsystem"))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// driver names the driver of a device, but not those of the serial core's own
// bus (since Linux 6.5), which stand between a tty and its chip.
func driver(device string) string {
	target, err := os.Readlink(filepath.Join(device, "driver"))
	if err != nil {
		return ""
	}
	if subsystem(device) == "serial-base" {
		return ""
	}
	return filepath.Base(target)
}

// attribute reads a sysfs attribute; empty if there is none. USB strings come
// from the device: at most 126 characters by the standard, any by a bad chip.
func attribute(dir, name string) string {
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	buf := make([]byte, 4096)
	n, err := file.Read(buf)
	if err != nil {
		return ""
	}
	text := strings.ToValidUTF8(string(buf[:n]), "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' && name == "uevent" || r >= ' ' && (r < 0x7f || r > 0x9f) {
			return r
		}
		return -1
	}, text))
}

// compareNatural compares names so that ttyUSB2 comes before ttyUSB10.
func compareNatural(a, b string) int {
	stemA, stemB := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
	if stemA != stemB {
		return strings.Compare(stemA, stemB)
	}
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
