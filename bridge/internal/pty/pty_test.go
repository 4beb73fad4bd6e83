package pty_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/pty"
	"github.com/serialspan/serialspan/bridge/line"
)

// patience bounds a wait that a working package ends at once.
const patience = 10 * time.Second

// got is one return of Read.
type got struct {
	bytes []byte
	event pty.Event
	err   error
}

// reader runs the one goroutine that reads, as the bridge does.
type reader struct {
	t    *testing.T
	pty  *pty.PTY
	c    chan got
	done chan struct{}
}

func open(t *testing.T, c pty.Config) *reader {
	t.Helper()
	p, err := pty.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return follow(t, p)
}

// follow reads p until it is closed.
func follow(t *testing.T, p *pty.PTY) *reader {
	t.Helper()
	r := &reader{t: t, pty: p, c: make(chan got, 4096), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		buf := make([]byte, 4096)
		for {
			n, event, err := p.Read(buf)
			r.c <- got{bytes.Clone(buf[:n]), event, err}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.Close()
		<-r.done
	})
	return r
}

func (r *reader) next() got {
	r.t.Helper()
	select {
	case g := <-r.c:
		if g.err != nil {
			r.t.Fatalf("Read: %v", g.err)
		}
		return g
	case <-time.After(patience):
		r.t.Fatal("Read gives nothing")
		panic("unreachable")
	}
}

func (r *reader) want(what pty.What) pty.Event {
	r.t.Helper()
	g := r.next()
	if g.event.What != what {
		r.t.Fatalf("Read gives %q, event %+v, want event %d", g.bytes, g.event, what)
	}
	return g.event
}

func (r *reader) wantBytes(want []byte) {
	r.t.Helper()
	var have []byte
	for len(have) < len(want) {
		g := r.next()
		if g.event.What != 0 {
			r.t.Fatalf("Read gives event %+v after %d bytes of %d", g.event, len(have), len(want))
		}
		have = append(have, g.bytes...)
	}
	if !bytes.Equal(have, want) {
		r.t.Fatalf("Read gives %d bytes that differ from the %d written", len(have), len(want))
	}
}

// app opens the slave as an app does; blocking, as most do.
func app(t *testing.T, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func (r *reader) openApp() *os.File {
	r.t.Helper()
	f := app(r.t, r.pty.Path())
	r.want(pty.Opened)
	return f
}

// change reads, changes and sets the app's termios.
func change(t *testing.T, f *os.File, edit func(*unix.Termios)) {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS2)
	if err != nil {
		t.Fatal(err)
	}
	edit(termios)
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS2, termios); err != nil {
		t.Fatal(err)
	}
}

func baud(constant, rate uint32) func(*unix.Termios) {
	return func(t *unix.Termios) {
		t.Cflag = t.Cflag&^unix.CBAUD | constant
		t.Ispeed, t.Ospeed = rate, rate
	}
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if n, err := w.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write of %d bytes = %d, %v", len(b), n, err)
	}
}

func TestOpenCloseEvents(t *testing.T) {
	r := open(t, pty.Config{})
	if r.pty.Opened() {
		t.Error("Opened before any app")
	}
	if n, err := r.pty.TryWrite([]byte("x")); n != 0 || !errors.Is(err, pty.ErrNotOpen) {
		t.Errorf("TryWrite before open = %d, %v, want ErrNotOpen", n, err)
	}
	if n, err := r.pty.Write([]byte("x")); n != 0 || !errors.Is(err, pty.ErrNotOpen) {
		t.Errorf("Write before open = %d, %v, want ErrNotOpen", n, err)
	}
	for range 20 {
		first := r.openApp()
		if !r.pty.Opened() {
			t.Fatal("not Opened after the event")
		}
		second := app(t, r.pty.Path())
		write(t, second, []byte("second"))
		r.wantBytes([]byte("second"))
		_ = first.Close()
		write(t, second, []byte("still there"))
		r.wantBytes([]byte("still there"))
		write(t, second, []byte("last words"))
		_ = second.Close()
		r.wantBytes([]byte("last words"))
		r.want(pty.Closed)
		if r.pty.Opened() {
			t.Fatal("Opened after the last close")
		}
	}
}

// A script's "echo x > path" may be gone before anybody looks.
func TestOpenWriteCloseAtOnce(t *testing.T) {
	r := open(t, pty.Config{})
	for range 50 {
		f := app(t, r.pty.Path())
		write(t, f, []byte("one shot"))
		_ = f.Close()
		r.want(pty.Opened)
		r.wantBytes([]byte("one shot"))
		r.want(pty.Closed)
	}
}

func TestUnreadBytesDoNotReachTheNextApp(t *testing.T) {
	r := open(t, pty.Config{})
	f := r.openApp()
	stale := bytes.Repeat([]byte("stale"), 3000)
	if n, err := r.pty.TryWrite(stale); n == 0 || err != nil {
		t.Fatalf("TryWrite = %d, %v", n, err)
	}
	_ = f.Close()
	r.want(pty.Closed)
	f = r.openApp()
	write(t, r.pty, []byte("fresh"))
	buf := make([]byte, 100)
	if n, err := f.Read(buf); string(buf[:n]) != "fresh" || err != nil {
		t.Fatalf("the next app reads %q, %v", buf[:n], err)
	}
}

func TestLineChange(t *testing.T) {
	r := open(t, pty.Config{Line: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}})
	f := app(t, r.pty.Path())
	want := line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}
	if e := r.want(pty.Opened); e.Line != want || e.HangUpOnClose || e.LinesOff {
		t.Fatalf("Opened with %+v, want %v", e, want)
	}
	for _, tt := range []struct {
		name     string
		edit     func(*unix.Termios)
		want     string
		hupcl    bool
		linesOff bool
	}{
		{"standard rate", baud(unix.B115200, 115200), "115200e71", false, false},
		{"any rate", baud(unix.BOTHER, 250000), "250000e71", false, false},
		{"stop bits", func(t *unix.Termios) { t.Cflag |= unix.CSTOPB }, "250000e72", false, false},
		{"rtscts", func(t *unix.Termios) { t.Cflag |= unix.CRTSCTS }, "250000e72/rtscts", false, false},
		{"xonxoff", func(t *unix.Termios) { t.Cflag &^= unix.CRTSCTS | unix.CSTOPB; t.Iflag |= unix.IXON | unix.IXOFF }, "250000e71/xonxoff", false, false},
		{"hupcl", func(t *unix.Termios) { t.Iflag = 0; t.Cflag |= unix.HUPCL }, "250000e71", true, false},
		{"b0", baud(unix.B0, 0), "250000e71", true, true},
		{"back", baud(unix.B9600, 9600), "9600e71", true, false},
	} {
		change(t, f, tt.edit)
		e := r.want(pty.LineChanged)
		if e.Line.String() != tt.want || e.HangUpOnClose != tt.hupcl || e.LinesOff != tt.linesOff {
			t.Errorf("%s: %+v, want %s", tt.name, e, tt.want)
		}
	}
	change(t, f, func(*unix.Termios) {}) // nothing changes, nothing is told
	write(t, f, []byte("x"))
	r.wantBytes([]byte("x"))
}

// Some programs set c_lflag = 0, which clears EXTPROC.
func TestEXTPROCIsArmedAgain(t *testing.T) {
	r := open(t, pty.Config{})
	f := r.openApp()
	for _, rate := range []uint32{300, 250000, 1234567, 57600} {
		change(t, f, func(t *unix.Termios) { baud(unix.BOTHER, rate)(t); t.Lflag = 0 })
		if e := r.want(pty.LineChanged); e.Line.Baud != rate {
			t.Fatalf("event with %v, want %d", e.Line, rate)
		}
	}
}

// An app may set everything that is poison to a serial line: line editing, echo,
// signals, XON and XOFF with their usual bytes.
func TestBytesPassACookedTerminal(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lflag uint32
		size  int
	}{
		{"line editing", unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN, 2 << 10}, // holds 4 KiB and drops more, as on any tty
		{"no line editing", unix.ECHO | unix.ISIG | unix.IEXTEN, 64 << 10},           // more than the line discipline holds: see arm
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, pty.Config{})
			f := r.openApp()
			change(t, f, func(termios *unix.Termios) {
				baud(unix.B9600, 9600)(termios)
				termios.Iflag |= unix.IXON
				termios.Lflag = tt.lflag
				termios.Cc[unix.VSTART], termios.Cc[unix.VSTOP] = 0x11, 0x13
				termios.Cc[unix.VINTR], termios.Cc[unix.VEOF], termios.Cc[unix.VERASE] = 0x03, 0x04, 0x7f
			})
			r.want(pty.LineChanged)
			data := make([]byte, tt.size)
			for i := range data {
				data[i] = byte(i)
			}
			data[len(data)-1] = 0x13
			var group sync.WaitGroup
			group.Go(func() {
				if n, err := r.pty.Write(data); n != len(data) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			})
			have := make([]byte, len(data))
			if _, err := io.ReadFull(f, have); err != nil || !bytes.Equal(have, data) {
				t.Errorf("the app reads other bytes, %v", err)
			}
			group.Wait()
			write(t, f, []byte("not stopped, no echo"))
			r.wantBytes([]byte("not stopped, no echo"))
		})
	}
}

func TestLineChangeComesAfterBytesBefore(t *testing.T) {
	p, err := pty.Open(pty.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	f := app(t, p.Path())
	write(t, f, []byte("hello"))
	buf := make([]byte, 4096)
	if _, e, err := p.Read(buf); e.What != pty.Opened || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	if n, _, err := p.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	write(t, f, []byte("old settings"))
	change(t, f, baud(unix.B19200, 19200))
	if n, _, err := p.Read(buf[:5]); string(buf[:n]) != "old s" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	// Written after the first report was read: between the two changes.
	write(t, f, []byte("new settings"))
	change(t, f, baud(unix.B9600, 9600))
	if n, _, err := p.Read(buf); string(buf[:n]) != "ettings" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	if _, e, err := p.Read(buf); e.What != pty.LineChanged || e.Line.Baud != 19200 || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	if n, _, err := p.Read(buf); string(buf[:n]) != "new settings" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	if _, e, err := p.Read(buf); e.What != pty.LineChanged || e.Line.Baud != 9600 || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	_ = f.Close()
	if _, e, err := p.Read(buf); e.What != pty.Closed || e.Line.Baud != 9600 || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
}

// The kernel's worker that moves bytes to the master may lag behind a report.
func TestWriteThenChangeKeepsOrder(t *testing.T) {
	r := open(t, pty.Config{})
	f := r.openApp()
	write(t, f, []byte("hello"))
	r.wantBytes([]byte("hello"))
	rates := []uint32{300, 1200, 9600, 19200}
	for i := range 500 {
		write(t, f, []byte("before"))
		rate := rates[i%len(rates)]
		change(t, f, baud(unix.BOTHER, rate))
		r.wantBytes([]byte("before"))
		if e := r.want(pty.LineChanged); e.Line.Baud != rate {
			t.Fatalf("round %d: event with %v, want %d", i, e.Line, rate)
		}
	}
}

// Every app's first steps; the reader may be late for all of them.
func TestOpenSetWriteKeepsOrder(t *testing.T) {
	r := open(t, pty.Config{})
	for i := range 200 {
		rate := uint32(1000 + i)
		f := app(t, r.pty.Path())
		change(t, f, baud(unix.BOTHER, rate))
		write(t, f, []byte("first"))
		e := r.want(pty.Opened)
		if e.Line.Baud != rate {
			e = r.want(pty.LineChanged)
		}
		if e.Line.Baud != rate {
			t.Fatalf("round %d: first bytes at %v, want %d", i, e.Line, rate)
		}
		r.wantBytes([]byte("first"))
		_ = f.Close()
		r.want(pty.Closed)
	}
}

// stty opens, sets and closes: all three must be told, however fast it was.
func TestStty(t *testing.T) {
	stty, err := exec.LookPath("stty")
	if err != nil {
		t.Skip("no stty here")
	}
	r := open(t, pty.Config{Link: filepath.Join(t.TempDir(), "tty")})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"460800", "crtscts", "raw"}, "460800n81/rtscts"},
		{[]string{"9600", "-crtscts", "cstopb", "ixon", "ixoff"}, "9600n82/xonxoff"},
		{[]string{"1200", "-cstopb", "raw", "-ixoff"}, "1200n81"},
	} {
		if out, err := exec.Command(stty, append([]string{"-F", r.pty.Path()}, tt.args...)...).CombinedOutput(); err != nil {
			t.Fatalf("stty %v: %v: %s", tt.args, err, out)
		}
		r.want(pty.Opened)
		var last pty.Event
		for last = r.next().event; last.What == pty.LineChanged; last = r.next().event {
		}
		if last.What != pty.Closed || last.Line.String() != tt.want {
			t.Errorf("stty %v: %+v, want %s", tt.args, last, tt.want)
		}
	}
}

func TestPurges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		queue int
		want  pty.What
	}{
		{"input", unix.TCIFLUSH, pty.PurgeInput},
		{"output", unix.TCOFLUSH, pty.PurgeOutput},
		{"both", unix.TCIOFLUSH, pty.PurgeInput | pty.PurgeOutput},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := pty.Open(pty.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close() }()
			f := app(t, p.Path())
			buf := make([]byte, 4096)
			if _, e, err := p.Read(buf); e.What != pty.Opened || err != nil {
				t.Fatalf("Read = %+v, %v", e, err)
			}
			if err := unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, tt.queue); err != nil {
				t.Fatal(err)
			}
			change(t, f, baud(unix.B9600, 9600))
			write(t, f, []byte("after"))
			if n, e, err := p.Read(buf); n != 0 || e.What != tt.want || err != nil {
				t.Fatalf("Read = %d, %+v, %v, want %d", n, e, err, tt.want)
			}
			if _, e, err := p.Read(buf); e.What != pty.LineChanged || err != nil {
				t.Fatalf("Read = %+v, %v", e, err)
			}
			if n, _, err := p.Read(buf); string(buf[:n]) != "after" || err != nil {
				t.Fatalf("Read = %q, %v", buf[:n], err)
			}
		})
	}
}

func TestEveryByteBothWays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		iflag uint32
	}{{"raw", 0}, {"app set IXON and IXOFF", unix.IXON | unix.IXOFF}} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, pty.Config{})
			f := r.openApp()
			if tt.iflag != 0 {
				change(t, f, func(t *unix.Termios) { t.Iflag |= tt.iflag })
				r.want(pty.LineChanged)
			}
			data := make([]byte, 64<<10)
			for i := range data {
				data[i] = byte(i)
			}
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
			var group sync.WaitGroup
			defer group.Wait()
			group.Go(func() {
				if n, err := f.Write(data); n != len(data) || err != nil {
					t.Errorf("app's Write = %d, %v", n, err)
				}
			})
			group.Go(func() {
				if n, err := r.pty.Write(data); n != len(data) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			})
			group.Go(func() {
				have := make([]byte, len(data))
				if _, err := io.ReadFull(f, have); err != nil || !bytes.Equal(have, data) {
					t.Errorf("app reads other bytes, %v", err)
				}
			})
			r.wantBytes(data)
		})
	}
}

func TestFullQueue(t *testing.T) {
	r := open(t, pty.Config{})
	f := r.openApp()
	block := make([]byte, 64<<10)
	n, err := r.pty.TryWrite(block)
	if n == 0 || n == len(block) || err != nil {
		t.Fatalf("TryWrite of more than fits = %d, %v", n, err)
	}
	for total := n; n > 0; total += n {
		if n, err = r.pty.TryWrite(block); err != nil || total > len(block) {
			t.Fatalf("TryWrite = %d, %v", n, err)
		}
	}
	if err := r.pty.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.pty.Write(block); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write after the deadline = %v", err)
	}
	if err := r.pty.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error)
	go func() {
		_, err := r.pty.Write(block)
		blocked <- err
	}()
	_ = f.Close()
	r.want(pty.Closed)
	if err := <-blocked; !errors.Is(err, pty.ErrNotOpen) {
		t.Fatalf("blocked Write after the last close = %v, want ErrNotOpen", err)
	}
}

func TestClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		open bool
	}{{"while no app has it open", false}, {"while an app has it open", true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, pty.Config{})
			blocked := make(chan error, 1)
			var f *os.File
			if tt.open {
				f = r.openApp()
				go func() {
					_, err := r.pty.Write(make([]byte, 64<<10))
					blocked <- err
				}()
			} else {
				blocked <- net.ErrClosed
			}
			if err := r.pty.Close(); err != nil {
				t.Fatal(err)
			}
			<-r.done
			g := <-r.c
			if !errors.Is(g.err, pty.ErrClosed) || !errors.Is(g.err, net.ErrClosed) {
				t.Fatalf("Read after Close = %+v", g)
			}
			if err := <-blocked; !errors.Is(err, net.ErrClosed) {
				t.Fatalf("blocked Write after Close = %v", err)
			}
			if _, err := r.pty.TryWrite([]byte("x")); !errors.Is(err, pty.ErrClosed) {
				t.Errorf("TryWrite after Close = %v", err)
			}
			if _, err := r.pty.Write([]byte("x")); !errors.Is(err, pty.ErrClosed) {
				t.Errorf("Write after Close = %v", err)
			}
			if err := r.pty.SetWriteDeadline(time.Time{}); !errors.Is(err, pty.ErrClosed) {
				t.Errorf("SetWriteDeadline after Close = %v", err)
			}
			if err := r.pty.Close(); err != nil {
				t.Errorf("second Close = %v", err)
			}
			if f != nil {
				if n, err := io.Copy(io.Discard, f); err != nil && !errors.Is(err, unix.EIO) {
					t.Errorf("the app reads %d bytes, %v after the hangup", n, err)
				}
			}
		})
	}
}

func TestNode(t *testing.T) {
	root := os.Getuid() == 0
	for _, tt := range []struct {
		name     string
		config   pty.Config
		mode     os.FileMode
		uid, gid uint32
		asRoot   bool
	}{
		{name: "zero config", mode: 0o600, uid: uint32(os.Getuid())},
		{name: "mode", config: pty.Config{Mode: 0o640}, mode: 0o640, uid: uint32(os.Getuid())},
		{name: "group", config: pty.Config{GID: 20}, mode: 0o660, uid: 0, gid: 20, asRoot: true},
		{name: "all", config: pty.Config{Mode: 0o606, UID: 1234, GID: 20}, mode: 0o606, uid: 1234, gid: 20, asRoot: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.asRoot && !root {
				t.Skip("giving files away needs root")
			}
			r := open(t, tt.config)
			var stat unix.Stat_t
			if err := unix.Stat(r.pty.Node(), &stat); err != nil {
				t.Fatal(err)
			}
			if os.FileMode(stat.Mode&0o777) != tt.mode || stat.Uid != tt.uid || tt.gid != 0 && stat.Gid != tt.gid {
				t.Errorf("node has mode %o, owner %d:%d", stat.Mode&0o777, stat.Uid, stat.Gid)
			}
		})
	}
	if root {
		return
	}
	if p, err := pty.Open(pty.Config{UID: 1}); err == nil {
		_ = p.Close()
		t.Error("giving the node away without root works")
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := pty.Open(pty.Config{Line: line.Settings{Baud: 1}}); !errors.Is(err, line.ErrSettings) {
		t.Errorf("Open with half settings = %v", err)
	}
	if _, err := pty.Open(pty.Config{Link: "relative"}); err == nil {
		t.Error("Open with a relative link works")
	}
	if _, err := pty.Open(pty.Config{Link: filepath.Join(t.TempDir(), "missing", "link")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open with a link in no directory = %v", err)
	}
	r := open(t, pty.Config{})
	if _, _, err := r.pty.Read(make([]byte, 1)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("Read into one byte = %v", err)
	}
}

// Every field of Config has a test above or in link_test.go: add one with a field.
func TestConfigFields(t *testing.T) {
	tested := map[string]bool{"Link": true, "Mode": true, "UID": true, "GID": true, "Line": true}
	for field := range reflect.TypeFor[pty.Config]().Fields() {
		if !tested[field.Name] {
			t.Errorf("Config.%s has no test", field.Name)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	p, err := pty.Open(pty.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	f := app(t, p.Path())
	buf, message, have := make([]byte, 4096), []byte("0123456789abcdef"), make([]byte, 16)
	if _, e, err := p.Read(buf); e.What != pty.Opened || err != nil {
		t.Fatalf("Read = %+v, %v", e, err)
	}
	allocations := testing.AllocsPerRun(200, func() {
		write(t, f, message)
		if n, _, err := p.Read(buf); n != 16 || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
		if n, err := p.TryWrite(message); n != 16 || err != nil {
			t.Fatalf("TryWrite = %d, %v", n, err)
		}
		if _, err := io.ReadFull(f, have); err != nil {
			t.Fatal(err)
		}
		write(t, p, message)
		if _, err := io.ReadFull(f, have); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations per round trip", allocations)
	}
}

func BenchmarkPingPong16(b *testing.B) {
	p, err := pty.Open(pty.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	fd, err := unix.Open(p.Path(), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	done := make(chan struct{})
	go func() { // echo, as the bridge would
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, _, err := p.Read(buf)
			if err != nil {
				return
			}
			if n > 0 {
				_, _ = p.TryWrite(buf[:n])
			}
		}
	}()
	message := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unix.Write(fd, message); err != nil {
			b.Fatal(err)
		}
		for have := 0; have < 16; {
			n, err := unix.Read(fd, message[have:])
			if err != nil {
				b.Fatal(err)
			}
			have += n
		}
	}
	_ = p.Close()
	<-done
}
