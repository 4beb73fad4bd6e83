package tests

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// TestSessionOutlivesUnplug pulls an FTDI adapter out under an open application
// and plugs it in at another port: what was written meanwhile arrives, once, in
// the same session.
func TestSessionOutlivesUnplug(t *testing.T) {
	secret := lab.NewSecret(t)
	consumer, join := startConsumer(t, secret)
	v := vm.Start(t, vm.Config{
		Name: "garage", Files: guestFiles(t, secret), NICs: []vm.NIC{vm.UserNet()}, Disk: vm.NewDisk(t),
		Sticks: []vm.Stick{{ID: "a", Serial: "LAB-A", Port: "1"}},
	})
	edge := startGuestAgent(t, v, "garage", lab.Settings{
		"cluster": join,
		"devices": lab.Settings{"publish": "known", "rules": []lab.Settings{
			{"match": lab.Settings{"vid": "0403"}, "name": "meter", "line": "57600n81", "dtr": "off", "rts": "on"},
		}},
	})
	meter := v.Stick("a")
	s := &usbStick{device: "meter", modem: line.RTS, end: meter, state: meter.State}
	waitDeviceState(t, consumer.Client(), s.device, client.DeviceAvailable, 20*time.Second)
	link := filepath.Join(consumer.Dir, s.device)
	consumer.MustRun("attach", s.device, "--pty", link)
	app := lab.OpenTTY(t, link)
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	talk(t, app, meter, time.Second)
	before := sessionOf(t, edge.Client, s.device)
	timer := "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
	if text, err := v.ReadFile(timer); err != nil || strings.TrimSpace(string(text)) != "1" {
		t.Errorf("the latency timer is %q, %v; want 1", text, err)
	}
	var took []time.Duration
	for _, place := range []string{"3", "2", "1", "3", "2", "1"} {
		took = append(took, replug(t, v, edge, app, place))
	}
	t.Logf("data %v after it was plugged in (median of %d)", median(took).Round(time.Millisecond), len(took))
	if slices.Min(took) > replugTime { // other load on this machine only adds
		t.Errorf("data %v after it was plugged in, want %v at most", took, replugTime)
	}
	after := sessionOf(t, edge.Client, s.device)
	if after.ID != before.ID {
		t.Errorf("the session is %+v, it was %+v", after, before)
	}
	// Set anew: the adapter forgets everything when it is unplugged.
	state, err := meter.State()
	if err == nil && (state.Modem != s.modem || state.Line.Baud == 0) {
		err = errors.New("it is not set")
	}
	if err != nil {
		t.Errorf("the adapter stands at %+v: %v", state, err)
	}
	_ = app.Close()
	edge.stop(t)
}

// replugTime is the budget from the plug to data.
const replugTime = time.Second

// replug pulls the stick "a" out while the application writes, plugs it in at
// the place given, and returns how long what was written then took.
func replug(t *testing.T, v *vm.VM, edge *guestAgent, app io.Writer, place string) time.Duration {
	t.Helper()
	meter := v.Stick("a")
	v.Unplug("a")
	waitDeviceState(t, edge.Client, "meter", client.DeviceAway, 10*time.Second)
	const want = "written while away"
	if _, err := io.WriteString(app, want); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	v.Plug("a", place)
	got := make([]byte, len(want))
	if err := meter.SetDeadline(time.Now().Add(tripTime)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(meter, got); err != nil || string(got) != want {
		t.Fatalf("at port %s came %q, %v", place, got[:n], err)
	}
	took := time.Since(start)
	transfers, err := meter.Transfers()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("at port %s: %s, data after %v", place, stages(transfers, start), took.Round(time.Millisecond))
	return took
}

// stages tells when what happened at a device that was plugged in: the kernel
// sees it, knows what it is and binds a driver, the agent has set it.
func stages(transfers []usbip.Transfer, plugged time.Time) string {
	var seen, configured, opened, set time.Duration
	for _, tr := range transfers {
		at := tr.At.Round(0).Sub(plugged.Round(0)) // a recording has no monotonic time
		switch {
		case at < 0:
			continue
		case seen == 0:
			seen = at
		case tr.IsConfiguration():
			configured = at
		case !tr.IsStandard() && opened == 0 && configured != 0 && at > configured+20*time.Millisecond:
			opened = at
		}
		if !tr.IsStandard() && !tr.ToHost() {
			set = at
		}
	}
	const ms = time.Millisecond
	return fmt.Sprintf("seen after %v, driver after %v, opened after %v, set after %v", seen.Round(ms), configured.Round(ms), opened.Round(ms), set.Round(ms))
}

// TestModemLines watches the modem lines of real drivers: cdc_acm ends a wait
// in the kernel at once, cp210x has to be asked. Both waits end with the port.
func TestModemLines(t *testing.T) {
	v := vm.Start(t, vm.Config{Files: portTest(t), USBIP: true})
	for _, d := range []struct {
		tty    string
		device *usbip.Device
		always line.ModemLines // what the driver says of a chip without that line
		late   time.Duration
	}{
		{"/dev/ttyACM0", usbip.New(usbip.Config{}), line.CTS, time.Second},
		{"/dev/ttyUSB0", usbip.New(usbip.Config{Kind: usbip.CP2102}), 0, 3 * time.Second},
	} {
		unplug := v.PlugUSB(d.device)
		lab.WaitFor(t, d.tty, 20*time.Second, func() error {
			_, err := v.ReadFile("/sys/class/tty/" + filepath.Base(d.tty) + "/dev")
			return err
		})
		p := v.Spawn("/bin/port.test", "-test.run", "TestRealModem", "-test.timeout", "60s", "-tty", d.tty, "-changes", "3")
		seen := func(text string) time.Duration {
			return lab.WaitFor(t, d.tty+" to show "+text, 20*time.Second, func() error {
				if out, _ := p.Output(); strings.Contains(out, text) {
					return nil
				} else if p.Running() {
					return errors.New("it shows " + out)
				}
				out, err := p.Wait()
				t.Fatalf("the test in the guest ended: %v\n%s", err, out)
				return err
			})
		}
		all := "modem " + d.always.String() + "\n"
		seen(all)
		for _, on := range []line.ModemLines{line.DCD, line.DCD | line.DSR, line.DSR} {
			d.device.SetModem(on)
			all += "modem " + (on | d.always).String() + "\n"
			if took := seen(all); took > d.late {
				t.Errorf("%s: %v was told after %v", d.tty, on, took)
			} else {
				t.Logf("%s: %v was told after %v", d.tty, on, took.Round(time.Millisecond))
			}
		}
		if out, err := p.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", d.tty, err, out)
		}
		unplug()
	}
}
