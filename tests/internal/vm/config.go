package vm

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// Config says what a machine is made of. The zero value is one without a
// network, disk or device.
type Config struct {
	// Name is the host name. Default "guest".
	Name string
	// Time is what its clock shows when it starts. Default: the real time.
	Time time.Time
	// Memory in MiB. Default 256.
	Memory int
	// Modules are loaded after those that the rest of Config needs, with what
	// they need; parameters follow a name after a blank.
	Modules []string
	// Files are copied: their path in the guest, here.
	Files map[string]string
	// Programs of this machine are copied to /bin, with the libraries they need.
	Programs []string
	// NICs are its network interfaces, eth0 the first.
	NICs []NIC
	// Sticks are QEMU's usb-serial devices: FTDI FT232B, 0403:6001.
	Sticks []Stick
	// USBIP makes VM.PlugUSB work.
	USBIP bool
	// Disk is the image of a disk that NewDisk made, mounted at DiskDir. What
	// the guest has not synced is lost when it is killed, as on a real one.
	Disk string
}

// DiskDir is where a guest has its disk.
const DiskDir = wire.DiskDir

// Stick is a usb-serial device. Zero values: no serial number.
type Stick struct {
	// ID names it in calls; each one has another.
	ID string
	// Serial is the USB serial number.
	Serial string
	// Port is where it is plugged in, "1" to "8"; "": the first free one.
	Port string
	// Unplugged: VM.Plug plugs it in.
	Unplugged bool
}

// NIC is a network interface: made by UserNet or InPlaceOf.
type NIC struct {
	// Address and Gateway are the guest's; the zero values give it none.
	Address netip.Prefix
	Gateway netip.Addr

	backend string    // value of QEMU's -netdev, without the id
	host    *lab.Host // where QEMU has to run; nil: anywhere
}

// UserNet is a network that needs no root: the guest reaches this machine's
// loopback as 10.0.2.2, by TCP and UDP, as through a NAT. Forwards are of the
// form "udp:127.0.0.1:PORT-:GUESTPORT".
func UserNet(forwards ...string) NIC {
	backend := "user,ipv6=off"
	for _, f := range forwards {
		backend += ",hostfwd=" + f
	}
	return NIC{
		Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2"), backend: backend,
	}
}

var taps atomic.Uint32

// InPlaceOf puts the guest where the lab's host was: it gets the host's
// address, and what runs on the host has none any more. A guest that is started
// anew takes the same NIC. It needs root.
func InPlaceOf(tb testing.TB, host *lab.Host) NIC {
	tb.Helper()
	name := fmt.Sprintf("tap%d", taps.Add(1))
	prefix := netip.PrefixFrom(host.Addr, 24)
	for _, args := range [][]string{
		{"link", "add", "bridge0", "type", "bridge"},
		{"address", "flush", "dev", "eth0"},
		{"link", "set", "eth0", "master", "bridge0"},
		{"tuntap", "add", "dev", name, "mode", "tap"},
		{"link", "set", name, "master", "bridge0"},
		{"link", "set", name, "up"},
		{"link", "set", "bridge0", "up"},
	} {
		if out, err := host.Command(tb.Context(), "ip", args...).CombinedOutput(); err != nil {
			tb.Fatalf("put a guest in place of %s: ip %v: %v\n%s", host.Name, args, err, out)
		}
	}
	return NIC{
		Address: prefix, Gateway: prefix.Masked().Addr().Next(),
		backend: "tap,script=no,downscript=no,ifname=" + name, host: host,
	}
}

// modules lists what the configuration needs.
func (c Config) modules() []string {
	list := []string{"virtio_pci", "virtio_console"}
	if len(c.NICs) > 0 {
		list = append(list, "virtio_net")
	}
	if len(c.Sticks) > 0 {
		list = append(list, "xhci-pci", "ftdi_sio")
	}
	if c.USBIP {
		list = append(list, "vhci-hcd", "cdc-acm", "cp210x", "ftdi_sio")
	}
	if c.Disk != "" {
		list = append(list, "virtio_blk", "crc32c_generic", "ext4")
	}
	return append(list, c.Modules...)
}

func (c Config) boot() wire.Boot {
	boot := wire.Boot{Hostname: c.Name, Disk: c.Disk != ""}
	for i, n := range c.NICs {
		boot.Interfaces = append(boot.Interfaces, wire.Interface{MAC: mac(i, n), Address: n.Address, Gateway: n.Gateway})
	}
	return boot
}

// mac returns the hardware address of the interface: other guests in the same
// network have another.
func mac(i int, n NIC) string {
	if !n.Address.Addr().Is4() {
		return fmt.Sprintf("52:54:00:00:00:%02x", i)
	}
	a := n.Address.Addr().As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", i, a[1], a[2], a[3])
}
