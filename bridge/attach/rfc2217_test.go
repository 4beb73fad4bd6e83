package attach_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// pinBench is a device with modem lines, whose data comes back, and an
// Attacher, in real time.
type pinBench struct {
	*bench
	port *bridgetest.Port
}

func newPinBench(t *testing.T, one rule.Rule, roundTrip time.Duration) *pinBench {
	b := &pinBench{bench: &bench{t: t, states: make(chan registry.State, 1000)}}
	one.Match, one.Name = rule.Match{VID: bridgetest.Pinned.Hardware.VID}, "lab"
	b.publisher = publish.New(publish.Config{
		Rules: []rule.Rule{one},
		Discover: func() ([]rule.Candidate, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.down {
				return nil, nil
			}
			return []rule.Candidate{bridgetest.Pinned}, nil
		},
		Open: func(spec publish.PortSpec) (publish.Port, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.port = bridgetest.NewPort()
			b.port.Opened(spec)
			return b.port, nil
		},
		PollInterval: 10 * time.Millisecond,
		OnDevices: func(all []registry.Device) {
			for _, d := range all {
				b.states <- d.State
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.attacher = attach.New(attach.Config{
		Resolve: func(name string) (use.Target, error) {
			if name != "lab" {
				return use.Target{}, registry.ErrNotFound
			}
			return use.Target{Owner: bridgetest.Owner, Device: "lab"}, nil
		},
		Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
			x, y := bridgetest.NewStreams(65536)
			running.Go(func() { _ = b.publisher.Serve(ctx, y, bridgetest.Owner) })
			if roundTrip == 0 {
				return x, nil
			}
			near, far := net.Pipe()
			running.Go(func() { late(x, far, roundTrip/2) })
			running.Go(func() { late(far, x, roundTrip/2) })
			return near, nil
		},
	})
	b.run(ctx, cancel, &running)
	running.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := b.port.ToDevice.Read(buf)
			if err != nil {
				return
			}
			_, _ = b.port.FromDevice.Write(buf[:n])
		}
	})
	return b
}

// released waits until nobody uses the device.
func (b *pinBench) released() {
	b.t.Helper()
	b.eventually("nobody uses the device", func() bool { return len(b.publisher.Sessions()) == 0 })
}

// late copies with a delay, as a long path does.
func late(to io.WriteCloser, from io.Reader, by time.Duration) {
	type piece struct {
		at time.Time
		b  []byte
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 4096)
			n, err := from.Read(buf)
			if n > 0 {
				pieces <- piece{time.Now().Add(by), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		<-time.After(time.Until(p.at))
		_, _ = to.Write(p.b)
	}
	_ = to.Close()
}

// need skips the test for want of a program, or fails it in CI.
func need(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("SERIALSPAN_TEST_REQUIRE") == "1" {
		t.Fatalf("would be skipped, which SERIALSPAN_TEST_REQUIRE=1 forbids: %s", reason)
	}
	t.Skip(reason)
}

// python returns an interpreter that has pyserial: Debian's package belongs to
// Debian's own, which need not be the first in PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import serial.rfc2217").Run() == nil {
			return name
		}
	}
	need(t, "needs pyserial: apt-get install python3-serial")
	return ""
}

const pyserial = `
import serial, sys, time
began = time.monotonic()
s = serial.serial_for_url(sys.argv[1], baudrate=115200, timeout=5)
print("open %.3f" % (time.monotonic() - began))
assert s.cts and not s.dsr, (s.cts, s.dsr)
every = bytes(range(256)) * 16
s.write(every)
assert s.read(len(every)) == every, "data"
for baud in 460800, 250000:
    s.baudrate = baud
    s.write(b"at %d" % baud)
    assert s.read(len(str(baud)) + 3) == b"at %d" % baud
s.parity, s.stopbits, s.rtscts = "E", 2, True
s.dtr = False
s.rts = False
s.rts = True
s.break_condition = True
s.break_condition = False
s.reset_input_buffer()
s.write(b"end")
assert s.read(3) == b"end"
s.close()
`

// TestRFC2217 is python3-serial, as esptool and others use it.
func TestRFC2217(t *testing.T) {
	interpreter := python(t)
	for _, test := range []struct {
		name  string
		trip  time.Duration
		limit string
	}{{"loopback", 0, "1.000"}, {"100 ms round trip", 100 * time.Millisecond, "1.500"}} {
		t.Run(test.name, func(t *testing.T) {
			b := newPinBench(t, rule.Rule{}, test.trip)
			s, err := b.attacher.Attach(attach.Spec{Device: "lab", RFC2217: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, interpreter, "-c", pyserial, "rfc2217://"+s.Where).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			took := strings.TrimPrefix(strings.TrimSpace(string(out)), "open ")
			t.Logf("pyserial opens in %s s", took)
			if took > test.limit {
				t.Errorf("pyserial took %s s to open, want at most %s", took, test.limit)
			}
			b.released()
			var bauds []uint32
			lines := b.port.Settings()
			for _, l := range lines {
				if n := len(bauds); n == 0 || bauds[n-1] != l.Baud {
					bauds = append(bauds, l.Baud)
				}
			}
			last := lines[len(lines)-1]
			if want := "250000e82/rtscts"; !slices.Equal(bauds, []uint32{460800, 250000}) || last.String() != want {
				t.Errorf("the device was set to %v, the last %v, want %s", lines, last, want)
			}
			var pins []string
			for _, p := range b.port.Happened() {
				_, what, _ := strings.Cut(p, " ")
				pins = append(pins, what)
			}
			if want := []string{"rts", "none", "rts", "break on", "break off"}; !slices.Equal(tail(pins, len(want)), want) {
				t.Errorf("the device saw %q, want %q at the end", pins, want)
			}
		})
	}
}

func tail(s []string, n int) []string { return s[max(0, len(s)-n):] }

// dialed returns what a client gets until it is closed or nothing comes for a
// moment.
func dialed(t *testing.T, address string) (conn net.Conn, first []byte, err error) {
	t.Helper()
	conn, err = net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	return conn, buf[:n], err
}

// TestRFC2217Refuses: a device that is not known, that is away or in use
// under refuse, looks like a port that nobody serves.
func TestRFC2217Refuses(t *testing.T) {
	b := newPinBench(t, rule.Rule{Busy: rule.BusyRefuse}, 0)
	for _, name := range []string{"lab", "nowhere"} {
		if _, err := b.attacher.Attach(attach.Spec{ID: name, Device: name, RFC2217: "127.0.0.1:0"}); err != nil {
			t.Fatal(err)
		}
	}
	all := b.attacher.Statuses()
	refused := func(why, address string) {
		t.Helper()
		if _, got, err := dialed(t, address); len(got) > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: the client got %x, %v", why, got, err)
		}
	}
	refused("unknown", all[1].Where)
	holder, err := b.attacher.OpenRaw(context.Background(), "lab", use.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	refused("busy", all[0].Where)
	_ = holder.Close()
	b.released()
	var first net.Conn
	b.eventually("a free device has its client", func() bool { // the one before may still be leaving
		conn, got, err := dialed(t, all[0].Where)
		first = conn
		return len(got) > 0 && err == nil
	})
	refused("a second client", all[0].Where)
	if _, err := first.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b.port.Drive(line.DSR, true)
	_ = first.Close()
}

// TestPTYSignals: what a program does to its terminal beside data.
func TestPTYSignals(t *testing.T) {
	b := newPinBench(t, rule.Rule{}, 0)
	link := filepath.Join(t.TempDir(), "tty")
	spec := attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}, Line: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}}
	if _, err := b.attacher.Attach(spec); err != nil {
		t.Fatal(err)
	}
	pins := func() (seen []string) {
		for _, p := range b.port.Happened() {
			_, what, _ := strings.Cut(p, " ")
			seen = append(seen, what)
		}
		return seen
	}
	edit := func(f *os.File, change func(*unix.Termios)) {
		t.Helper()
		editTTY(t, f, change)
	}
	app := openTTY(t, link)
	b.eventually("the framing of the attachment", func() bool { return b.port.Line() == spec.Line })
	edit(app, func(s *unix.Termios) { s.Cflag |= unix.CSTOPB | unix.CRTSCTS })
	b.eventually("stop bits and flow control", func() bool { return b.port.Line().String() == "9600e72/rtscts" })
	edit(app, func(s *unix.Termios) { s.Cflag &^= unix.CBAUD })
	b.eventually("B0 turns the outputs off", func() bool { return reflect.DeepEqual(tail(pins(), 1), []string{"none"}) })
	setBaud(t, app, 19200)
	b.eventually("another rate turns them on", func() bool {
		return reflect.DeepEqual(tail(pins(), 1), []string{"dtr+rts"}) && b.port.Line().Baud == 19200
	})
	_ = app.Close()
	b.released()
	n := len(pins())
	app = openTTY(t, link)
	b.eventually("in use", func() bool { return len(b.publisher.Sessions()) == 1 })
	edit(app, func(s *unix.Termios) { s.Cflag |= unix.HUPCL })
	_ = app.Close()
	b.eventually("HUPCL drops the outputs", func() bool { return reflect.DeepEqual(tail(pins(), 1), []string{"none"}) && len(pins()) > n })
}

func editTTY(t testing.TB, tty *os.File, change func(*unix.Termios)) {
	t.Helper()
	raw, err := tty.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		var s *unix.Termios
		if s, setErr = unix.IoctlGetTermios(int(fd), unix.TCGETS2); setErr != nil {
			return
		}
		change(s)
		setErr = unix.IoctlSetTermios(int(fd), unix.TCSETS2, s)
	})
	if err := errors.Join(err, setErr); err != nil {
		t.Fatal(err)
	}
}

// TestPTYBackPressure: a device that takes nothing stops the program's write,
// and nothing is lost of what it has written until then.
func TestPTYBackPressure(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	app := openTTY(t, link)
	defer app.Close()
	data := everyByte(9, 1<<20)
	_ = app.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	n, err := app.Write(data)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n > 512<<10 {
		t.Fatalf("the program wrote %d bytes, %v, to a device that reads none", n, err)
	}
	have, err := bridgetest.ReadExactly(b.stick, n)
	if err != nil || !slices.Equal(have, data[:n]) {
		t.Errorf("the device got something else than the %d bytes, %v", n, err)
	}
}

// TestRFC2217Outputs: a connect leaves DTR and RTS as they are, and a client that
// sets one of them does not set the other.
func TestRFC2217Outputs(t *testing.T) {
	b := newPinBench(t, rule.Rule{DTR: line.DriveOff, RTS: line.DriveOff}, 0)
	s, err := b.attacher.Attach(attach.Spec{Device: "lab", RFC2217: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := dialed(t, s.Where)
	if err != nil {
		t.Fatal(err)
	}
	history := b.port.Happened
	// IAC WILL COM-PORT-OPTION, and an answered query: the client is served.
	if _, err := conn.Write([]byte("\xff\xfb\x2c\xff\xfa\x2c\x01\x00\x00\x00\x00\xff\xf0")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 100)
	for !strings.Contains(string(got), "\xff\xfa\x2c\x65") {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	if pins := history(); len(pins) > 0 {
		t.Errorf("a connect has set %q", pins)
	}
	if _, err := conn.Write([]byte("\xff\xfa\x2c\x05\x0b\xff\xf0")); err != nil { // RTS on
		t.Fatal(err)
	}
	b.eventually("RTS is set", func() bool { return len(history()) > 0 })
	if _, what, _ := strings.Cut(history()[0], " "); what != "rts" {
		t.Errorf("a client that sets RTS sets %q", what)
	}
}
