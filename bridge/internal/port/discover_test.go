package port_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/internal/port"
)

// sysfs builds a tree from lines "path = contents" and "path -> target".
func sysfs(t *testing.T, description string) string {
	t.Helper()
	root := t.TempDir()
	for text := range strings.Lines(description) {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		path, value, isFile := strings.Cut(text, " = ")
		if !isFile {
			path, value, _ = strings.Cut(text, " -> ")
		}
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if isFile {
			err = os.WriteFile(full, []byte(strings.ReplaceAll(value, `\n`, "\n")+"\n"), 0o600)
		} else {
			// The target is given from the root; a link needs it from where it stands.
			var relative string
			if relative, err = filepath.Rel(filepath.Dir(full), filepath.Join(root, value)); err == nil {
				err = os.Symlink(relative, full)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const machine = `
class/tty/console/active = tty0 ttyS1
class/tty/tty0 -> devices/virtual/tty/tty0
devices/virtual/tty/tty0/dev = 4:0
class/tty/ptmx -> devices/virtual/tty/ptmx
devices/virtual/tty/ptmx/dev = 5:2

class/tty/ttyS0 -> devices/platform/serial8250/tty/ttyS0
devices/platform/serial8250/tty/ttyS0/type = 0
devices/platform/serial8250/tty/ttyS0/uevent = MAJOR=4\nMINOR=64\nDEVNAME=ttyS0
devices/platform/serial8250/tty/ttyS0/device -> devices/platform/serial8250
devices/platform/serial8250/driver -> bus/platform/drivers/serial8250
devices/platform/serial8250/subsystem -> bus/platform

class/tty/ttyS1 -> devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS1
devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS1/type = 4
devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS1/device -> devices/pnp0/00:01/00:01:0/00:01:0.0
devices/pnp0/00:01/00:01:0/00:01:0.0/driver -> bus/serial-base/drivers/port
devices/pnp0/00:01/00:01:0/00:01:0.0/subsystem -> bus/serial-base
devices/pnp0/00:01/00:01:0/driver -> bus/serial-base/drivers/ctrl
devices/pnp0/00:01/00:01:0/subsystem -> bus/serial-base
devices/pnp0/00:01/driver -> bus/pnp/drivers/serial
devices/pnp0/00:01/subsystem -> bus/pnp

class/tty/ttyS2 -> devices/pnp0/00:02/tty/ttyS2
devices/pnp0/00:02/tty/ttyS2/type = 4
devices/pnp0/00:02/tty/ttyS2/device -> devices/pnp0/00:02
devices/pnp0/00:02/driver -> bus/pnp/drivers/serial

class/tty/ttyUSB0 -> devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/tty/ttyUSB0
devices/pci0000:00/0000:00:14.0/usb1/idVendor = 1d6b
devices/pci0000:00/0000:00:14.0/usb1/1-1/idVendor = 05e3
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/idVendor = 0403
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/idProduct = 6001
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/serial = A50285BI
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/manufacturer = FTDI
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/product = FT232R USB UART
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/bInterfaceNumber = 00
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/driver -> bus/usb/drivers/ftdi_sio
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/port_number = 0
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/driver -> bus/usb-serial/drivers/ftdi_sio
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/tty/ttyUSB0/uevent = MAJOR=188\nMINOR=0\nDEVNAME=ttyUSB0
devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/tty/ttyUSB0/device -> devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0

class/tty/ttyUSB10 -> devices/usb2/2-3/2-3:1.0/ttyUSB10/tty/ttyUSB10
devices/usb2/2-3/idVendor = 10c4
devices/usb2/2-3/idProduct = ea60
devices/usb2/2-3/product = CP2102N\x USB\t to UART
devices/usb2/2-3/2-3:1.0/bInterfaceNumber = 00
devices/usb2/2-3/2-3:1.0/ttyUSB10/port_number = 0
devices/usb2/2-3/2-3:1.0/ttyUSB10/driver -> bus/usb-serial/drivers/cp210x
devices/usb2/2-3/2-3:1.0/ttyUSB10/tty/ttyUSB10/device -> devices/usb2/2-3/2-3:1.0/ttyUSB10

class/tty/ttyUSB2 -> devices/usb2/2-4/2-4:1.0/ttyUSB2/tty/ttyUSB2
devices/usb2/2-4/idVendor = 9710
devices/usb2/2-4/idProduct = 7820
devices/usb2/2-4/2-4:1.0/bInterfaceNumber = 00
devices/usb2/2-4/2-4:1.0/ttyUSB2/port_number = 1
devices/usb2/2-4/2-4:1.0/ttyUSB2/driver -> bus/usb-serial/drivers/mos7840
devices/usb2/2-4/2-4:1.0/ttyUSB2/tty/ttyUSB2/device -> devices/usb2/2-4/2-4:1.0/ttyUSB2

class/tty/ttyACM0 -> devices/usb1/1-5/1-5:1.0/tty/ttyACM0
class/tty/ttyACM1 -> devices/usb1/1-5/1-5:1.2/tty/ttyACM1
devices/usb1/1-5/idVendor = 0658
devices/usb1/1-5/idProduct = 0200
devices/usb1/1-5/serial = 0123
devices/usb1/1-5/1-5:1.0/bInterfaceNumber = 00
devices/usb1/1-5/1-5:1.0/driver -> bus/usb/drivers/cdc_acm
devices/usb1/1-5/1-5:1.0/tty/ttyACM0/device -> devices/usb1/1-5/1-5:1.0
devices/usb1/1-5/1-5:1.2/bInterfaceNumber = 02
devices/usb1/1-5/1-5:1.2/driver -> bus/usb/drivers/cdc_acm
devices/usb1/1-5/1-5:1.2/tty/ttyACM1/device -> devices/usb1/1-5/1-5:1.2

class/tty/rfcomm0 -> devices/usb1/1-7/1-7:1.0/bluetooth/hci0/hci0:12/tty/rfcomm0
devices/usb1/1-7/idVendor = 0a12
devices/usb1/1-7/1-7:1.0/bInterfaceNumber = 00
devices/usb1/1-7/1-7:1.0/bluetooth/hci0/hci0:12/subsystem -> class/bluetooth
devices/usb1/1-7/1-7:1.0/bluetooth/hci0/hci0:12/tty/rfcomm0/device -> devices/usb1/1-7/1-7:1.0/bluetooth/hci0/hci0:12

class/tty/ttyUSB97 -> devices/usb1/1-8/1-8:1.0/ttyUSB97/tty/ttyUSB97
devices/usb1/1-8/idVendor = 0403
devices/usb1/1-8/idProduct = 6001
devices/usb1/1-8/1-8:1.0/ttyUSB97/tty/ttyUSB97/device -> devices/usb1/1-8/1-8:1.0/ttyUSB97
class/tty/ttyUSB99 -> devices/gone
class/tty/ttyUSB98 -> devices/usb9/ttyUSB98
devices/usb9/ttyUSB98/device -> devices/usb9/gone
`

func TestDiscover(t *testing.T) {
	want := []port.Candidate{
		{Name: "rfcomm0", Path: "/dev/rfcomm0"},
		{Name: "ttyACM0", Path: "/dev/ttyACM0", VID: "0658", PID: "0200", Serial: "0123", Interface: "00", PortPath: "1-5", Driver: "cdc_acm"},
		{Name: "ttyACM1", Path: "/dev/ttyACM1", VID: "0658", PID: "0200", Serial: "0123", Interface: "02", PortPath: "1-5", Driver: "cdc_acm"},
		{Name: "ttyS0", Path: "/dev/ttyS0", Driver: "serial8250", Skip: port.SkipNoHardware},
		{Name: "ttyS1", Path: "/dev/ttyS1", Driver: "serial", Skip: port.SkipConsole},
		{Name: "ttyS2", Path: "/dev/ttyS2", Driver: "serial"},
		{Name: "ttyUSB0", Path: "/dev/ttyUSB0", VID: "0403", PID: "6001", Serial: "A50285BI", Manufacturer: "FTDI", Product: "FT232R USB UART", Interface: "00", PortPath: "1-1.2", PortNumber: "0", Driver: "ftdi_sio"},
		{Name: "ttyUSB2", Path: "/dev/ttyUSB2", VID: "9710", PID: "7820", Interface: "00", PortPath: "2-4", PortNumber: "1", Driver: "mos7840"},
		{Name: "ttyUSB10", Path: "/dev/ttyUSB10", VID: "10c4", PID: "ea60", Product: "CP2102N USB to UART", Interface: "00", PortPath: "2-3", PortNumber: "0", Driver: "cp210x"},
	}
	tree := strings.NewReplacer(`\x`, "\x1b\xff", `\t`, "\t").Replace(machine)
	have, err := port.Discover(sysfs(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(have, want) {
		t.Errorf("Discover gives\n%+v\nwant\n%+v", have, want)
	}
}

func TestDiscoverWithoutTTYs(t *testing.T) {
	if _, err := port.Discover(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Discover of no sysfs = %v", err)
	}
	have, err := port.Discover(sysfs(t, "class/tty/console/active = tty0\n"))
	if err != nil || len(have) != 0 {
		t.Errorf("Discover of a machine without ports = %v, %v", have, err)
	}
}

// The machine that runs the test is one more fixture: nothing may be opened, and
// every candidate must have a name and a path.
func TestDiscoverHere(t *testing.T) {
	have, err := port.Discover("/sys")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no sysfs here")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range have {
		if c.Name == "" || !strings.HasPrefix(c.Path, "/dev/") {
			t.Errorf("candidate %+v", c)
		}
	}
}
