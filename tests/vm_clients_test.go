package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// clientStick is an echoing device in the guest that programs here use.
type clientStick struct {
	name    string
	end     lab.End
	history func() ([]usbip.Change, error)
}

// TestClients has programs that others wrote use devices with real drivers, and
// looks at the device for what they meant.
//
//	program ─ PTY or rfc2217:// ─ agent consumer ═══ agent in the guest ─ driver ─ device
func TestClients(t *testing.T) {
	lab.NeedTools(t, "node", "npm", "picocom", "socat", "stty")
	secret := lab.NewSecret(t)
	consumer, join := startConsumer(t, secret)
	v := vm.Start(t, vm.Config{
		Name: "garage", Files: guestFiles(t, secret), NICs: []vm.NIC{vm.UserNet()}, USBIP: true, Disk: vm.NewDisk(t),
		Sticks: []vm.Stick{{ID: "a", Serial: "LAB-A", Port: "1"}},
	})
	sticks := echoingSticks(t, v)
	edge := startGuestAgent(t, v, "garage", lab.Settings{
		"cluster": join,
		"devices": lab.Settings{"rules": []lab.Settings{
			{"match": lab.Settings{"vid": "0403"}, "name": "ftdi", "line": "9600n81"},
			{"match": lab.Settings{"vid": "2341"}, "name": "acm", "line": "9600n81"},
			{"match": lab.Settings{"vid": "10c4"}, "name": "cp2102", "line": "9600n81"},
		}},
	})
	for _, s := range sticks {
		t.Run(s.name, func(t *testing.T) {
			waitDeviceState(t, consumer.Client(), s.name, client.DeviceAvailable, 20*time.Second)
			link := filepath.Join(consumer.Dir, s.name)
			consumer.MustRun("attach", s.name, "--pty", link)
			changeBauds(t, consumer, s, link)
			if s.name == "cp2102" { // it sees flow control too
				useTerminalPrograms(t, consumer, s, link)
			}
			consumer.MustRun("detach", link)
		})
	}
	edge.stop(t)
}

// echoingSticks plugs two devices in beside the one that is there, and lets
// all of them say what they hear.
func echoingSticks(t *testing.T, v *vm.VM) []clientStick {
	t.Helper()
	acm, cp2102, ftdi := usbip.New(usbip.Config{}), usbip.New(usbip.Config{Kind: usbip.CP2102}), v.Stick("a")
	v.PlugUSB(acm)
	v.PlugUSB(cp2102)
	sticks := []clientStick{
		{"acm", acm, func() ([]usbip.Change, error) { return acm.History(), nil }},
		{"cp2102", cp2102, func() ([]usbip.Change, error) { return cp2102.History(), nil }},
		{"ftdi", ftdi, ftdi.History},
	}
	var all sync.WaitGroup
	for _, s := range sticks {
		all.Go(func() { _, _ = io.Copy(s.end, s.end) })
	}
	t.Cleanup(func() {
		for _, s := range sticks {
			_ = s.end.SetDeadline(time.Unix(1, 0))
		}
		all.Wait()
	})
	return sticks
}

// clientBlock is how much is written at each baud rate, in bytes: more than the
// driver takes at once.
const clientBlock = 6000

// changeBauds has each client change the baud rate twice and looks at what the
// device heard before, between and after.
func changeBauds(t *testing.T, consumer *lab.Agent, s clientStick, link string) {
	bauds := []string{"115200", "460800", "250000"}
	plain := []string{"115200n81", "460800n81", "250000n81"}
	address := freeTCP(t)
	consumer.MustRun("attach", s.name, "--rfc2217", address)
	modules, interpreter := nodeModules(t), pythonWithSerial(t)
	for _, c := range []struct {
		name string
		args []string
		want []string // line settings in which the device hears each block
	}{
		{"node-serialport", []string{"node", "clients/serialport.cjs", link}, plain},
		{"pyserial on the PTY", []string{interpreter, "clients/pyserial.py", link}, plain},
		{"pyserial rfc2217", []string{interpreter, "clients/pyserial.py", "rfc2217://" + address}, append(slices.Clone(plain), "250000e72")},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := s.history()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := append(append(c.args, fmt.Sprint(clientBlock)), bauds...)
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
			start := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
			t.Logf("it took %v", time.Since(start).Round(time.Millisecond))
			history, err := s.history()
			if err != nil {
				t.Fatal(err)
			}
			wantInOrder(t, history, len(before), c.want)
			waitDeviceState(t, consumer.Client(), s.name, client.DeviceAvailable, 10*time.Second)
		})
	}
	consumer.MustRun("detach", address)
}

// freeTCP returns a TCP address on loopback that nobody listens on.
func freeTCP(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// wantInOrder fails the test unless the device heard each block at its line
// settings and the blocks that were heard by each change are whole. The history
// begins to count after so many changes.
func wantInOrder(t *testing.T, history []usbip.Change, after int, want []string) {
	t.Helper()
	// The settings that the device had at each change of bytes heard.
	type stretch struct {
		from uint64
		line string
	}
	var heard []stretch
	for _, c := range history[max(0, after-1):] {
		c.Line.Flow = line.FlowNone
		now := stretch{c.After, c.Line.String()}
		if n := len(heard); n > 0 && heard[n-1].from == now.from {
			heard[n-1] = now // no byte came in between
		} else if n == 0 || heard[n-1].line != now.line {
			heard = append(heard, now)
		}
	}
	// What was set before the first byte and after the last is no matter here.
	var got []string
	for _, h := range heard {
		got = append(got, fmt.Sprintf("%s from byte %d", h.line, h.from))
	}
	base := uint64(0)
	for i, h := range heard {
		if h.line == want[0] {
			base = h.from
			heard = heard[i:]
			break
		}
	}
	for i, w := range want {
		if i >= len(heard) || heard[i].line != w || heard[i].from != base+uint64(i)*clientBlock {
			t.Errorf("the device heard %q; want blocks of %d bytes at %q", got, clientBlock, want)
			return
		}
	}
}

// pythonWithSerial returns an interpreter that has pyserial: Debian's package
// belongs to Debian's own, which need not be the first in PATH.
func pythonWithSerial(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import serial.rfc2217").Run() == nil {
			return name
		}
	}
	lab.Skip(t, "needs pyserial: apt-get install python3-serial")
	return ""
}

// useTerminalPrograms has stty, picocom and socat use the link, one after the
// other.
func useTerminalPrograms(t *testing.T, consumer *lab.Agent, s clientStick, link string) {
	t.Run("stty", func(t *testing.T) {
		app := lab.OpenTTY(t, link)
		consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
		for _, row := range []struct {
			args, want string
			refused    bool // a PTY cannot express it
		}{
			{args: "9600", want: "9600n81"},
			{args: "19200 cstopb crtscts", want: "19200n82/rtscts"},
			{args: "-crtscts ixon ixoff", want: "19200n82/xonxoff"},
			{args: "230400 -cstopb -ixon -ixoff", want: "230400n81"},
			{args: "cs7", want: "230400n81", refused: true},
			{args: "parenb", want: "230400n81", refused: true},
			{args: "57600 cs7 parenb", want: "57600n81", refused: true},
		} {
			out, err := stty(link, strings.Fields(row.args)...)
			if (err != nil) != row.refused {
				t.Errorf("stty %s: %v %s; want it refused: %v", row.args, err, out, row.refused)
			}
			waitLine(t, s, "stty "+row.args, row.want)
			talkEcho(t, app, "after stty "+row.args)
		}
		_ = app.Close()
	})
	t.Run("picocom", func(t *testing.T) {
		before, err := stty(link, "-g")
		if err != nil {
			t.Fatal(err)
		}
		terminal := lab.NewTTY(t)
		slave := lab.OpenTTY(t, terminal.Path)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "picocom", "--baud", "38400", "--quiet", link)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitLine(t, s, "picocom", "38400n81")
		talkEcho(t, terminal, "typed in picocom")
		const exit = "\x01\x18" // Ctrl-A Ctrl-X
		if _, err := io.WriteString(terminal, exit); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("picocom: %v", err)
		}
		// It leaves HUPCL on, on any tty; all else is as it was.
		if _, err := stty(link, "-hupcl"); err != nil {
			t.Error(err)
		}
		if after, err := stty(link, "-g"); err != nil || after != before {
			t.Errorf("the modes of the link are %q, %v; they were %q before picocom", after, err, before)
		}
	})
	t.Run("socat", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "socat", "-t", "0.1", "-", "FILE:"+link+",rawer,b115200")
		cmd.WaitDelay = time.Second
		output := &lockedBuffer{}
		cmd.Stdout, cmd.Stderr = output, output
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		waitLine(t, s, "socat", "115200n81")
		const said = "through socat\x00\x11\x13\xff\r\n"
		if _, err := io.WriteString(stdin, said); err != nil {
			t.Fatal(err)
		}
		lab.WaitFor(t, "the echo in socat", 10*time.Second, func() error {
			if got := output.String(); got != said {
				return fmt.Errorf("%q came", got)
			}
			return nil
		})
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("socat: %v\n%s", err, output)
		}
	})
	// The PTY has told of every change and goes on telling.
	app := lab.OpenTTY(t, link)
	if out, err := stty(link, "4800"); err != nil {
		t.Errorf("stty 4800: %v %s", err, out)
	}
	waitLine(t, s, "stty after all", "4800n81")
	talkEcho(t, app, "after all")
	_ = app.Close()
}

func stty(link string, args ...string) (string, error) {
	out, err := exec.Command("stty", append([]string{"-F", link}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// waitLine waits until the device has the line settings.
func waitLine(t *testing.T, s clientStick, why, want string) {
	t.Helper()
	lab.WaitFor(t, "the settings at the device: "+why, 5*time.Second, func() error {
		history, err := s.history()
		if err != nil {
			return err
		}
		var state chip.State
		if n := len(history); n > 0 {
			state = history[n-1].State
		}
		if got := state.Line.String(); got != want {
			return errors.New("they are " + got + ", want " + want)
		}
		return nil
	})
}

// talkEcho says something to an echoing device.
func talkEcho(t *testing.T, app lab.End, text string) {
	t.Helper()
	if err := app.SetDeadline(time.Now().Add(tripTime)); err != nil {
		t.Fatal(err)
	}
	if err := pass(app, app, text); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}
