package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/simstick"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal/terminaltest"
)

func TestConsoleKeys(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []string // pieces as they are typed
		send string
		does []action
	}{
		{"plain", []string{"abc"}, "abc", nil},
		{"quit", []string{"ab\x01\x18cd"}, "ab", []action{quit}},
		{"quit in pieces", []string{"ab\x01", "\x18"}, "ab", []action{quit}},
		{"Ctrl-A", []string{"\x01\x01b"}, "\x01b", nil},
		{"Ctrl-A in pieces", []string{"\x01", "\x01", "\x18"}, "\x01\x18", nil},
		{"unknown command", []string{"a\x01qb"}, "ab", nil},
		{"Ctrl-X alone", []string{"\x18"}, "\x18", nil},
		{"status and more", []string{"a\x01\x16b\x01", "\x16c"}, "abc", []action{ctrlV, ctrlV}},
		{"help", []string{"\x01?a\x01\x08b"}, "ab", []action{'?', ctrlH}},
		{"break", []string{"a\x01\x1cb\x1c"}, "ab\x1c", []action{ctrlBackslash}},
		{"Ctrl-S alone", []string{"\x13"}, "\x13", nil},
		{"lines", []string{"\x01\x02\x01\x15\x01\x04\x01\x19\x01\x09\x01\x0a\x01\x06\x01\x14\x01\x07\x01\x13x"}, "x",
			[]action{ctrlB, ctrlU, ctrlD, ctrlY, ctrlI, ctrlJ, ctrlF, ctrlT, ctrlG, ctrlS}},
	} {
		var keys consoleKeys
		var send []byte
		var does []action
		for _, piece := range test.in {
			for p := []byte(piece); len(p) > 0; {
				part, do, rest := keys.feed(p)
				send = append(send, part...)
				if do != sendOnly {
					does = append(does, do)
				}
				if p = rest; do == quit {
					p = nil
				}
			}
		}
		if string(send) != test.send || !slices.Equal(does, test.does) {
			t.Errorf("%s: sends %q, does %v", test.name, send, does)
		}
	}
}

func TestConsoleLine(t *testing.T) {
	parse := func(text string) line.Settings {
		s, err := line.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, test := range []struct {
		from string
		key  action
		want string
	}{
		{"9600n81", ctrlU, "19200n81"},
		{"10000n81", ctrlU, "19200n81"},
		{"10000n81", ctrlD, "9600n81"},
		{"300n81", ctrlD, "300n81"},
		{"921600n81", ctrlU, "921600n81"},
		{"2000000n81", ctrlU, "2000000n81"},
		{"2000000n81", ctrlD, "921600n81"},
		{"9600n81", ctrlY, "9600o81"},
		{"9600s81", ctrlY, "9600n81"},
		{"9600n82", ctrlI, "9600n72"},
		{"9600n62", ctrlI, "9600n51.5"},
		{"9600n51.5", ctrlI, "9600n82"},
		{"9600n51", ctrlJ, "9600n51.5"},
		{"9600n82", ctrlJ, "9600n81"},
		{"9600n81/rtscts", ctrlF, "9600n81/xonxoff"},
		{"9600n81/xonxoff", ctrlF, "9600n81"},
	} {
		if have := nextLine(parse(test.from), test.key); have != parse(test.want) {
			t.Errorf("%s, key %#x: %v, want %s", test.from, test.key, have, test.want)
		}
	}
	if s, err := lineOf("57600", parse("9600e71/rtscts")); err != nil || s != parse("57600e71/rtscts") {
		t.Errorf("%v, %v", s, err)
	}
	if s, err := lineOf("57600o72", parse("9600e71/rtscts")); err != nil || s != parse("57600o72") {
		t.Errorf("%v, %v", s, err)
	}
	for _, wrong := range []string{"0", "fast", "9600x81", "-1"} {
		if _, err := lineOf(wrong, line.Default()); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// stickAgent is an agent whose consoles are simulated sticks.
func stickAgent(t *testing.T) *controltest.Agent {
	agent := &controltest.Agent{}
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
		host, stick := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- simstick.Serve(context.Background(), stick) }()
		t.Cleanup(func() { <-served })
		return host, nil
	}
	return agent
}

func TestConsolePipe(t *testing.T) {
	socket := serve(t, stickAgent(t))
	r := command(t, "PING 1\nECHO \x01\x18x\nID\n", "console", "stick", "--linger", "100ms", "--socket", socket)
	if want := "PONG 1\r\n\x01\x18x\r\nID SerialSpan simulated stick 1\r\n"; r.code != 0 || r.out != want {
		t.Errorf("have %+v, want %q", r, want)
	}
}

func TestConsoleTerminal(t *testing.T) {
	socket := serve(t, stickAgent(t))
	person, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	var out buffer
	ended := make(chan int, 1)
	go func() {
		a := &app{in: program, out: program, err: &out}
		ended <- a.run(t.Context(), []string{"console", "stick", "--echo", "--socket", socket})
	}()
	io.WriteString(person, "PING hello\r")
	screen := expect(t, person, "PONG hello\r\n")
	if !strings.Contains(screen, "PING hello\r\n") {
		t.Errorf("no echo of what was typed in %q", screen)
	}
	io.WriteString(person, "\x01\x16\x01?ID\r") // the status line, the help, and on
	expect(t, person, "ID SerialSpan simulated stick 1\r\n")
	io.WriteString(person, "\x01\x18")
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	for _, want := range []string{"Ctrl-A Ctrl-X quits", "*** stick: resolve", "11 B sent", "115200n81, DTR on, RTS on, CTS on", "***   Ctrl-A Ctrl-S   send"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in what it said: %q", want, out.String())
		}
	}
}

// expect reads until want has been shown and returns all.
func expect(t *testing.T, r io.Reader, want string) string {
	t.Helper()
	var seen []byte
	buf := make([]byte, 1000)
	for !bytes.Contains(seen, []byte(want)) {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("read %q, then %v", seen, err)
		}
		seen = append(seen, buf[:n]...)
	}
	return string(seen)
}

// TestConsoleKicked: the reason is said after the terminal is restored, with
// the exit code for it.
func TestConsoleKicked(t *testing.T) {
	agent := &controltest.Agent{}
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
		reader, writer := io.Pipe()
		go func() {
			io.WriteString(writer, "so far")
			writer.CloseWithError(client.Errorf(client.Kicked, "take it back with --take", "read from \"stick\": attic took it"))
		}()
		return deaf{reader}, nil
	}
	socket := serve(t, agent)
	_, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	var out, errOut buffer
	a := &app{in: program, out: &out, err: &errOut}
	code := a.run(t.Context(), []string{"console", "stick", "--socket", socket})
	if code != 4 || out.String() != "so far" || !strings.HasSuffix(errOut.String(), "serialspan: read from \"stick\": attic took it; take it back with --take\n") {
		t.Errorf("exit %d, %q, %q", code, out.String(), errOut.String())
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	program.Close() // ends the goroutine that reads
}

type deaf struct{ *io.PipeReader }

func (deaf) Write(p []byte) (int, error) { return len(p), nil }

func TestConsoleInterrupted(t *testing.T) {
	socket := serve(t, stickAgent(t))
	person, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		a := &app{in: program, out: program, err: io.Discard}
		ended <- a.run(ctx, []string{"console", "stick", "--socket", socket})
	}()
	io.WriteString(person, "PING\r")
	expect(t, person, "PONG\r\n")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	program.Close() // ends the goroutine that reads
}

// TestConsoleStuckTerminal: output that nobody takes does not keep the terminal
// raw when the program is told to stop.
func TestConsoleStuckTerminal(t *testing.T) {
	agent := &controltest.Agent{}
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) { return flood{make(chan struct{})}, nil }
	socket := serve(t, agent)
	person, program := terminaltest.Open(t)
	before := terminaltest.Settings(t, program)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		a := &app{in: program, out: program, err: io.Discard}
		ended <- a.run(ctx, []string{"console", "stick", "--socket", socket})
	}()
	expect(t, person, "xxxx") // and no more: the terminal is full soon
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	if after := terminaltest.Settings(t, program); after != before {
		t.Error("the terminal is not as it was")
	}
	program.Close() // ends the goroutines that read and write
}

// flood is a device that talks without end.
type flood struct{ closed chan struct{} }

func (f flood) Read(p []byte) (int, error) {
	select {
	case <-f.closed:
		return 0, io.EOF
	default:
		return copy(p, bytes.Repeat([]byte("x"), 4096)), nil
	}
}

func (flood) Write(p []byte) (int, error) { return len(p), nil }

func (f flood) Close() error {
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}
