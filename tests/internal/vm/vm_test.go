package vm_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitTime is for what takes an idle guest a fraction of a second.
const waitTime = 20 * time.Second

func TestGuest(t *testing.T) {
	disk := vm.NewDisk(t)
	config := vm.Config{
		Time: time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC), Disk: disk, NICs: []vm.NIC{vm.UserNet()},
		Programs: []string{"date", "sh", "sleep", "cat", "sync"},
	}
	began := time.Now()
	v := vm.Start(t, config)
	if starved, most := v.Starved(), time.Since(began); starved <= 0 || starved > most {
		t.Errorf("its processor was without one of ours for %v of %v", starved, most)
	}
	if out := v.MustRun("date", "-u", "+%Y"); out != "2016\n" {
		t.Errorf("the guest is in %q, want 2016", out)
	}
	if _, err := v.Run("sh", "-c", "echo wrong >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("a program that failed: %v", err)
	}
	if _, err := v.Run("nonsense"); err == nil {
		t.Error("a program that is not there has run")
	}
	sleep := v.Spawn("sleep", "1000")
	if err := sleep.Signal(unix.SIGTERM); err != nil {
		t.Errorf("signal: %v", err)
	}
	if _, err := sleep.Wait(); err == nil || sleep.Running() {
		t.Errorf("a program that was killed: %v", err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	if err := v.WriteFile(vm.DiskDir+"/deep/file", big, 0o600); err != nil {
		t.Error(err)
	}
	if got, err := v.ReadFile(vm.DiskDir + "/deep/file"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(big))
	}
	v.MustRun("sync")
	carrier := func() string { return v.MustRun("cat", "/sys/class/net/eth0/carrier") }
	if got := carrier(); got != "1\n" {
		t.Errorf("carrier is %q, want 1", got)
	}
	v.SetLink("eth0", false)
	lab.WaitFor(t, "the loss of the carrier", waitTime, func() error {
		if carrier() != "0\n" {
			return errors.New("it is there")
		}
		return nil
	})
	before := v.MustRun("cat", "/proc/uptime")
	v.Pause()
	v.Resume()
	if after := v.MustRun("cat", "/proc/uptime"); after == before {
		t.Error("time stands still after a pause")
	}
	running := v.Spawn("sleep", "1000")
	v.Kill()
	if _, err := running.Wait(); !errors.Is(err, vm.ErrOff) {
		t.Errorf("a program on a machine that went off: %v", err)
	}

	again := vm.Start(t, config)
	if got, err := again.ReadFile(vm.DiskDir + "/deep/file"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("after a power failure: %d bytes, %v; want the %d that were synced", len(got), err, len(big))
	}
	again.Shutdown()
}

// TestNetworkOfKernel has the guest's kernel do what KubeSpan's Linux does.
func TestNetworkOfKernel(t *testing.T) {
	v := vm.Start(t, vm.Config{
		Modules:  []string{"wireguard", "crc32c_generic", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_fib_inet", "dummy numdummies=2"},
		Programs: []string{"ip", "nft"},
	})
	v.MustRun("ip", "link", "add", "kubespan", "type", "wireguard")
	v.MustRun("ip", "rule", "add", "priority", "32500", "fwmark", "0x20/0x60", "table", "180")
	v.MustRun("nft", "add table inet talos; add chain inet talos c { type filter hook prerouting priority -300; }; add rule inet talos c meta mark set 0x40")
	if out := v.MustRun("ip", "-brief", "link"); !strings.Contains(out, "kubespan") || !strings.Contains(out, "dummy1") {
		t.Errorf("links are\n%s", out)
	}
}

// TestUSB has the guest's cat and stty use each kind of device.
func TestUSB(t *testing.T) {
	v := vm.Start(t, vm.Config{
		Sticks:   []vm.Stick{{ID: "a", Serial: "A1", Port: "2"}, {ID: "b", Unplugged: true}},
		USBIP:    true,
		Programs: []string{"cat", "stty", "sh", "ls"},
	})
	acm := usbip.New(usbip.Config{VID: 0x0658, PID: 0x0200})
	unplug := v.PlugUSB(acm)
	waitFile(t, v, "/dev/ttyUSB0", true)
	waitFile(t, v, "/dev/ttyACM0", true)
	if out := v.MustRun("sh", "-c", "cat /sys/bus/usb/devices/1-2/serial"); out != "A1\n" {
		t.Errorf("serial number is %q, want A1", out)
	}
	cp := usbip.New(usbip.Config{Kind: usbip.CP2102, Serial: "0001"})
	v.PlugUSB(cp)
	waitFile(t, v, "/dev/ttyUSB1", true)

	a := v.Stick("a")
	for _, d := range []struct {
		name, tty string
		end       lab.End
		state     func() (chip.State, error)
	}{
		{"FTDI", "/dev/ttyUSB0", a, a.State},
		{"CDC-ACM", "/dev/ttyACM0", acm, func() (chip.State, error) { return acm.State(), nil }},
		{"CP2102", "/dev/ttyUSB1", cp, func() (chip.State, error) { return cp.State(), nil }},
	} {
		t.Run(d.name, func(t *testing.T) { useDevice(t, v, d.tty, d.end, d.state) })
	}

	unplug()
	waitFile(t, v, "/dev/ttyACM0", false)
	if _, err := acm.Write([]byte("x")); !errors.Is(err, usbip.ErrUnplugged) {
		t.Errorf("write to what is not plugged in: %v", err)
	}
	v.PlugUSB(acm)
	waitFile(t, v, "/dev/ttyACM0", true)
	v.Unplug("a")
	waitFile(t, v, "/dev/ttyUSB0", false)
	v.Plug("b", "5")
	waitFile(t, v, "/sys/bus/usb/devices/1-5", true)
	v.Plug("a", "6")
	waitFile(t, v, "/sys/bus/usb/devices/1-6", true)
}

// useDevice runs an echo at 9600e72 in the guest and looks at the far end.
func useDevice(t *testing.T, v *vm.VM, tty string, end lab.End, state func() (chip.State, error)) {
	cat := v.Spawn("sh", "-c", "exec 3<>"+tty+"; stty -F "+tty+" raw -echo -hupcl 9600 cs7 parenb -parodd cstopb; exec cat <&3 >&3")
	_ = end.SetDeadline(time.Now().Add(waitTime))
	want, err := line.Parse("9600e72")
	if err != nil {
		t.Fatal(err)
	}
	lab.WaitFor(t, "the line settings at the device", waitTime, func() error {
		s, err := state()
		if err == nil && (s.Line != want || s.Modem != line.DTR|line.RTS) {
			out, stderr := cat.Output()
			err = errors.New(s.Line.String() + " " + s.Modem.String() + out + stderr)
		}
		return err
	})
	if _, err := end.Write([]byte("hello\r\n")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(end, got); err != nil || string(got) != "hello\r\n" {
		t.Errorf("echo is %q, %v", got, err)
	}
	if err := cat.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	_, _ = cat.Wait()
	if s, err := state(); err != nil || s.Modem != line.DTR|line.RTS {
		t.Errorf("after the close DTR and RTS are %v, %v; want both on, without HUPCL", s.Modem, err)
	}
	_ = end.SetDeadline(time.Time{})
}

func waitFile(t *testing.T, v *vm.VM, path string, there bool) {
	t.Helper()
	lab.WaitFor(t, path, waitTime, func() error {
		_, err := v.Run("ls", path)
		if (err == nil) != there {
			return errors.Join(err, errors.New("want it there: "+map[bool]string{true: "yes", false: "no"}[there]))
		}
		return nil
	})
}
