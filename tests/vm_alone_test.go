package tests

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// crowd is a guest with ports that are hard to tell apart or not the agent's to
// use, and a consumer here.
type crowd struct {
	consumer *lab.Agent
	v        *vm.VM
	edge     *guestAgent
	held     map[string]*heldPort // by how another program holds it
	board    *usbip.Device
	unplug   func() // the board
}

// heldPort is a port that another program had before the agent started.
type heldPort struct {
	chip   *usbip.Device
	holder *vm.Process
	calls  int // history of the chip when it was held
}

// TestWhichPort: two sticks without serial numbers, a stick that resets itself
// and comes back under another name, and ports that are to be left alone.
func TestWhichPort(t *testing.T) {
	secret := lab.NewSecret(t)
	consumer, join := startConsumer(t, secret)
	files := guestFiles(t, secret)
	maps.Copy(files, portTest(t))
	c := &crowd{consumer: consumer, held: map[string]*heldPort{}, board: usbip.New(usbip.Config{Serial: "BOARD"})}
	c.v = vm.Start(t, vm.Config{
		Name: "bench", Files: files, NICs: []vm.NIC{vm.UserNet()}, USBIP: true, Disk: vm.NewDisk(t),
		Sticks: []vm.Stick{{ID: "left", Port: "1"}, {ID: "right", Port: "2"}},
	})
	c.unplug = c.v.PlugUSB(c.board)
	waitTTY(t, c.v, "ttyACM0")
	rules := []lab.Settings{
		{"match": lab.Settings{"vid": "0403"}, "name": "twin"},
		{"match": lab.Settings{"serial": "BOARD"}, "name": "board"},
		{"match": lab.Settings{"path": "/dev/ttyS0"}, "name": "console"},
		{"match": lab.Settings{"path": "/dev/ttyS1"}, "name": "phantom"},
	}
	for i, how := range []string{"flock", "exclusive"} {
		tty := fmt.Sprintf("ttyACM%d", 1+i)
		c.held[how] = c.hold(t, how, tty)
		rules = append(rules, lab.Settings{"match": lab.Settings{"serial": how}, "name": how, "dtr": "on", "rts": "on"})
	}
	c.edge = startGuestAgent(t, c.v, "bench", lab.Settings{"cluster": join, "devices": lab.Settings{"rules": rules}})
	t.Run("left alone", c.leftAlone)
	t.Run("held", c.heldByOthers)
	t.Run("twins", c.twins)
	t.Run("resets itself", c.softReset)
	c.edge.stop(t)
}

// hold plugs a device in and has another program take it.
func (c *crowd) hold(t *testing.T, how, tty string) *heldPort {
	t.Helper()
	h := &heldPort{chip: usbip.New(usbip.Config{Serial: how})}
	c.v.PlugUSB(h.chip)
	waitTTY(t, c.v, tty)
	h.holder = c.v.Spawn("/bin/port.test", "-test.run", "TestRealHold", "-test.timeout", "10m", "-tty", "/dev/"+tty, "-hold", how)
	lab.WaitFor(t, tty+" to be held", 20*time.Second, func() error {
		if out, _ := h.holder.Output(); !strings.Contains(out, "held") {
			return errors.New(out)
		}
		return nil
	})
	h.calls = len(h.chip.History())
	return h
}

// leftAlone: the reason is shown on every node.
func (c *crowd) leftAlone(t *testing.T) {
	for name, why := range map[string]string{"console": "left alone: console", "phantom": "left alone: no hardware"} {
		waitDeviceState(t, c.consumer.Client(), name, client.DeviceFault, 20*time.Second)
		if d, err := deviceOf(t, c.consumer.Client(), name); err != nil || d.Detail != why {
			t.Errorf("%s is %+v, %v; want %q", name, d, err, why)
		}
	}
}

// heldByOthers: the reason is shown, the chip sees nothing of the agent's
// tries, and the port is taken when it is free.
func (c *crowd) heldByOthers(t *testing.T) {
	for how, h := range c.held {
		waitDeviceState(t, c.consumer.Client(), how, client.DeviceFault, 20*time.Second)
		if d, err := deviceOf(t, c.consumer.Client(), how); err != nil || !strings.Contains(d.Detail, "another program uses it: port.test") {
			t.Errorf("%s is %+v, %v; want it said who uses it", how, d, err)
		}
		if changes := h.chip.History()[h.calls:]; len(changes) > 0 {
			t.Errorf("%s: the chip saw %+v while another program had it", how, changes)
		}
		if err := h.holder.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		took := waitDeviceState(t, c.consumer.Client(), how, client.DeviceAvailable, 20*time.Second)
		t.Logf("%s: available %v after the other program ended", how, took.Round(time.Millisecond))
	}
}

// twins have names by their ports, whichever the kernel finds first.
func (c *crowd) twins(t *testing.T) {
	sticks := map[string]string{"twin": "left", "twin-2": "right"}
	apps := map[string]lab.End{}
	for name := range sticks {
		waitDeviceState(t, c.consumer.Client(), name, client.DeviceAvailable, 20*time.Second)
		link := filepath.Join(c.consumer.Dir, name)
		c.consumer.MustRun("attach", name, "--pty", link)
		apps[name] = lab.OpenTTY(t, link)
		c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	}
	for name, id := range sticks {
		talk(t, apps[name], c.v.Stick(id), 0)
		c.v.Unplug(id)
	}
	for name := range sticks {
		waitDeviceState(t, c.edge.Client, name, client.DeviceAway, 10*time.Second)
	}
	c.v.Plug("right", "2")
	waitTTY(t, c.v, "ttyUSB0")
	c.v.Plug("left", "1")
	for name, id := range sticks {
		waitDeviceState(t, c.edge.Client, name, client.DeviceInUse, 10*time.Second)
		talk(t, apps[name], c.v.Stick(id), 0)
	}
	all, err := c.edge.Client.Devices(t.Context())
	for _, d := range all {
		if strings.HasPrefix(d.Name, "twin") && sticks[d.Name] == "" {
			t.Errorf("there is a third twin: %+v, %v", d, err)
		}
	}
	if n, err := c.v.ReadFile("/sys/class/tty/ttyUSB0/device/../../devpath"); err != nil || strings.TrimSpace(string(n)) != "2" {
		t.Errorf("ttyUSB0 is at port %q, %v; want 2, so that the names have changed places", n, err)
	}
}

// softReset: the board vanishes and comes back as another tty; the session goes
// on, and what was written meanwhile arrives once.
func (c *crowd) softReset(t *testing.T) {
	waitDeviceState(t, c.consumer.Client(), "board", client.DeviceAvailable, 20*time.Second)
	link := filepath.Join(c.consumer.Dir, "board")
	c.consumer.MustRun("attach", "board", "--pty", link)
	app := lab.OpenTTY(t, link)
	c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	talk(t, app, c.board, 300*time.Millisecond)
	before := sessionOnly(t, c.consumer.Client(), "board")

	c.unplug()
	waitDeviceState(t, c.edge.Client, "board", client.DeviceAway, 10*time.Second)
	c.v.PlugUSB(usbip.New(usbip.Config{Serial: "ANOTHER"}))
	waitTTY(t, c.v, "ttyACM0")
	const text = "written while it was away"
	if _, err := io.WriteString(app, text); err != nil {
		t.Fatal(err)
	}
	c.v.PlugUSB(c.board)
	waitTTY(t, c.v, "ttyACM3")
	got := make([]byte, len(text))
	_ = c.board.SetDeadline(time.Now().Add(tripTime))
	if n, err := io.ReadFull(c.board, got); err != nil || string(got) != text {
		t.Fatalf("%q came, %v", got[:n], err)
	}
	talk(t, app, c.board, 300*time.Millisecond)
	if after := sessionOnly(t, c.consumer.Client(), "board"); after.ID != before.ID || after.Gaps > 2 {
		t.Errorf("the session is %+v, it was %+v; want the same with one gap each way at most", after, before)
	}
}

// sessionOnly returns the session on the device, of which there is one.
func sessionOnly(t *testing.T, c *client.Client, device string) client.Session {
	t.Helper()
	all, err := c.Sessions(t.Context())
	var found []client.Session
	for _, s := range all {
		if s.Device == device {
			found = append(found, s)
		}
	}
	if err != nil || len(found) != 1 {
		t.Fatalf("sessions are %+v, %v; want one on %s", all, err, device)
	}
	return found[0]
}
