package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/portwire"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal/terminaltest"
)

// desk is a person at a console: what the console says is on its screen too.
type desk struct {
	t       *testing.T
	agent   *controltest.Agent
	person  *os.File
	program *os.File
	before  unix.Termios
	cancel  context.CancelFunc
	ended   chan int
	failed  buffer // what was said after the terminal was restored
	seen    []byte
}

// sit starts a console on a real terminal.
func sit(t *testing.T, agent *controltest.Agent, args ...string) *desk {
	t.Helper()
	socket := serve(t, agent)
	d := &desk{t: t, agent: agent, ended: make(chan int, 1)}
	d.person, d.program = terminaltest.Open(t)
	d.before = terminaltest.Settings(t, d.program)
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	go func() {
		a := &app{in: d.program, out: d.program, err: io.MultiWriter(d.program, &d.failed)}
		d.ended <- a.run(ctx, append([]string{"console", "stick", "--socket", socket}, args...))
		_ = d.person.SetReadDeadline(time.Now().Add(time.Second)) // what it said last is on its way
	}()
	d.sees("helps\r\n")
	return d
}

func (d *desk) types(keys string) {
	d.t.Helper()
	if _, err := io.WriteString(d.person, keys); err != nil {
		d.t.Fatal(err)
	}
}

// sees reads the screen until want is on it, after what was seen before.
func (d *desk) sees(want string) {
	d.t.Helper()
	buf := make([]byte, 1000)
	for {
		if at := bytes.Index(d.seen, []byte(want)); at >= 0 {
			d.seen = d.seen[at+len(want):]
			return
		}
		n, err := d.person.Read(buf)
		if err != nil {
			d.t.Fatalf("%q is not on the screen after %q: %v", want, d.seen, err)
		}
		d.seen = append(d.seen, buf[:n]...)
	}
}

// leaves waits for the console's end and checks the terminal.
func (d *desk) leaves(code int) {
	d.t.Helper()
	if have := <-d.ended; have != code {
		d.t.Errorf("exit %d, want %d", have, code)
	}
	if terminaltest.Settings(d.t, d.program) != d.before {
		d.t.Error("the terminal is not as it was")
	}
	d.program.Close() // ends the goroutine that reads
}

// TestConsoleCommands: every key does at the device what it says.
func TestConsoleCommands(t *testing.T) {
	d := sit(t, &controltest.Agent{})
	for _, step := range []struct{ keys, says string }{
		{"\x01\x15", "line settings are 230400n81"},
		{"\x01\x04\x01\x04", "line settings are 57600n81"},
		{"\x01\x19", "57600o81"},
		{"\x01\x09", "57600o71"},
		{"\x01\x0a", "57600o72"},
		{"\x01\x06", "57600o72/rtscts"},
		{"\x01\x02", "baud rate or line settings: "},
		{"96x\x7f00e71\r", "line settings are 9600e71\r\n"},
		{"\x01\x02fast\r", "not line settings"},
		{"\x01\x02300\x1b", "nothing was done"},
		{"\x01\x02\r", "nothing was done"},
		{"\x01\x14", "DTR is off"},
		{"\x01\x07", "RTS is off"},
		{"\x01\x14", "DTR is on"},
		{"\x01\x1c", "break sent"},
		{"\x01\x16", "9600e71, DTR on, RTS off, CTS on, DSR off, DCD off, RI off; open for"},
		{"typed", "typed"},
	} {
		d.types(step.keys)
		d.sees(step.says)
	}
	port := d.agent.Ports()[0]
	var lines []string
	for _, r := range port.Requests() {
		if r.Op == portwire.OpLine {
			lines = append(lines, r.Line)
		}
	}
	if want := "230400n81 115200n81 57600n81 57600o81 57600o71 57600o72 57600o72/rtscts 9600e71"; strings.Join(lines, " ") != want {
		t.Errorf("line settings %q", lines)
	}
	d.types("\x01\x18")
	d.leaves(0)
}

// TestConsoleNotes: gaps and changes are said beside the stream, those of this
// console not twice.
func TestConsoleNotes(t *testing.T) {
	d := sit(t, &controltest.Agent{})
	port := d.agent.Ports()[0]
	d.types("some")
	d.sees("some")
	port.Gap(7)
	d.sees("\r\n*** gap: up to 7 bytes from the device were lost, after byte 4 that it sent\r\n")
	port.Change(func(s *portwire.Frame) { s.Line = "300n81" })
	d.sees("*** line settings changed from 115200n81 to 300n81\r\n")
	port.Change(func(s *portwire.Frame) { s.Text = "used by others too: attic" })
	d.sees("*** used by others too: attic\r\n")
	d.types("\x01\x16")
	d.sees("1 gaps, 7 B lost; used by others too: attic\r\n")
	d.types("\x01\x15\x01?")
	d.sees("Ctrl-A Ctrl-X   quit")
	d.types("\x01\x18")
	d.leaves(0)
	if said := d.failed.String(); strings.Contains(said, "to 600n81") {
		t.Errorf("what was asked for here was said as a change: %q", said)
	}
}

// TestConsoleRefuses: a device that says no is told, and the console goes on.
func TestConsoleRefuses(t *testing.T) {
	d := sit(t, &controltest.Agent{Refuse: client.Errorf(client.Unsupported, "", "send break to device \"stick\": no\x1b lines")})
	d.types("\x01\x1c")
	d.sees("*** send break to device \"stick\": no? lines\r\n")
	d.types("more")
	d.sees("more")
	d.types("\x01\x18")
	d.leaves(0)
}

// TestConsoleSendsFile: every byte of it, Ctrl-A among them, and typing waits.
func TestConsoleSendsFile(t *testing.T) {
	got := make(chan []byte, 1)
	agent := &controltest.Agent{Open: func(string, client.Take) (io.ReadWriteCloser, error) {
		host, device := net.Pipe()
		go func() {
			data, _ := io.ReadAll(device)
			got <- data
		}()
		return host, nil
	}}
	sent := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{3}).Read(sent)
	path := filepath.Join(t.TempDir(), "firm ware.bin")
	if err := os.WriteFile(path, sent, 0o600); err != nil {
		t.Fatal(err)
	}
	d := sit(t, agent)
	d.types("\x01\x13")
	d.sees("file to send: ")
	d.types(path + "\r")
	d.sees("*** sent firm ware.bin: 102 kB in ")
	d.types("\x01\x13" + path + "x\r")
	d.sees("no such file")
	d.types("\x01\x13/dev/null\r")
	d.sees("not a regular file")
	d.types("after\x01\x16")
	d.sees("102 kB sent")
	d.types("\x01\x18")
	d.leaves(0)
	if data := <-got; !bytes.Equal(data, append(sent, "after"...)) {
		t.Errorf("the device got %d bytes, not those of the file", len(data))
	}
}

// TestConsoleFileAborted: Ctrl-C ends a file that the device does not take, and
// quitting works meanwhile.
func TestConsoleFileAborted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, quits := range []bool{false, true} {
		device := &slow{taken: make(chan struct{}), release: make(chan struct{}), closed: make(chan struct{})}
		d := sit(t, &controltest.Agent{Open: func(string, client.Take) (io.ReadWriteCloser, error) { return device, nil }})
		d.types("\x01\x13" + path + "\r")
		<-device.taken
		d.types("\x01\x1cx")
		d.sees("a file is being sent; Ctrl-C ends that")
		if !quits {
			d.types("\x03")
			close(device.release)
			d.sees("*** ended: ")
		}
		d.types("\x01\x18")
		d.leaves(0)
	}
}

// slow is a device that takes nothing from its first byte until release.
type slow struct{ taken, release, closed chan struct{} }

func (s *slow) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

func (s *slow) Write(p []byte) (int, error) {
	select {
	case <-s.taken:
	default:
		close(s.taken)
	}
	select {
	case <-s.release:
		return len(p), nil
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *slow) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// TestConsoleLeaves: the terminal is as it was on every way out.
func TestConsoleLeaves(t *testing.T) {
	kicked := client.Errorf(client.Kicked, "take it back with --take", "read from device \"stick\": attic took it")
	t.Run("signal", func(t *testing.T) {
		d := sit(t, &controltest.Agent{})
		d.cancel() // what SIGTERM does
		d.leaves(0)
	})
	t.Run("device lost", func(t *testing.T) {
		reader, writer := io.Pipe()
		d := sit(t, &controltest.Agent{Open: func(string, client.Take) (io.ReadWriteCloser, error) { return deaf{reader}, nil }})
		writer.CloseWithError(kicked)
		d.leaves(4)
		if !strings.HasSuffix(d.failed.String(), "attic took it; take it back with --take\n") {
			t.Errorf("said %q", d.failed.String())
		}
	})
	t.Run("question open", func(t *testing.T) {
		d := sit(t, &controltest.Agent{})
		d.types("\x01\x02960")
		d.sees("960")
		d.types("\x01\x18")
		d.leaves(0)
	})
	t.Run("panic", func(t *testing.T) {
		person, program := terminaltest.Open(t)
		_ = person
		restored := false
		c := &console{restore: func() { restored = true }}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			func() {
				defer c.mend()
				panic(errors.New("a bug"))
			}()
		}()
		if !restored {
			t.Error("the terminal was not restored before the panic went on")
		}
		program.Close()
	})
}
