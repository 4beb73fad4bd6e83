package attach_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// bench is a simulated stick on a real PTY, published as "lab", and an
// Attacher, in real time.
type bench struct {
	t         testing.TB
	stick     io.ReadWriteCloser
	path      string // of the device
	publisher *publish.Publisher
	attacher  *attach.Attacher
	states    chan registry.State

	mu      sync.Mutex
	streams []*bridgetest.Stream
	down    bool
	late    bool // the next stream reaches the owner late
	dialed  int
}

func newBench(t testing.TB, hold time.Duration) *bench {
	stick, path, err := publish.OpenSimulatedPTY()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, stick: stick, path: path, states: make(chan registry.State, 1000)}
	b.publisher = publish.New(publish.Config{
		Rules:    []rule.Rule{{Match: rule.Match{Path: path}, Name: "lab"}},
		Hold:     hold,
		Discover: func() ([]rule.Candidate, error) { return nil, nil },
		OnDevices: func(all []registry.Device) {
			for _, d := range all {
				b.states <- d.State
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.attacher = attach.New(attach.Config{
		Hold:    hold,
		Resolve: func(string) (use.Target, error) { return use.Target{Owner: bridgetest.Owner, Device: "lab"}, nil },
		Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
			x, y := bridgetest.NewStreams(65536)
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.down {
				return nil, bridgetest.ErrCut
			}
			b.streams = append(b.streams, x)
			b.dialed++
			late := b.late
			b.late = false
			running.Go(func() {
				if late {
					<-time.After(20 * time.Millisecond)
				}
				_ = b.publisher.Serve(ctx, y, bridgetest.Owner)
			})
			return x, nil
		},
	})
	t.Cleanup(func() { _ = stick.Close() })
	b.run(ctx, cancel, &running)
	return b
}

// run runs both sides until the test ends, and returns when they are ready.
func (b *bench) run(ctx context.Context, cancel context.CancelFunc, running *sync.WaitGroup) {
	b.t.Helper()
	for _, run := range []func(context.Context) error{b.publisher.Run, b.attacher.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				b.t.Error(err)
			}
		})
	}
	b.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	b.await(registry.StateAvailable)
	b.eventually("attacher runs", func() bool {
		_, err := b.attacher.OpenRaw(ctx, "", use.TakeNormal)
		return !errors.Is(err, attach.ErrNotRunning)
	})
}

// eventually asks until the answer is yes.
func (b *bench) eventually(what string, yes func() bool) {
	b.t.Helper()
	late := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-late:
			b.t.Errorf("never: %s", what)
			return
		}
	}
}

func (b *bench) await(want registry.State) {
	b.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case s := <-b.states:
			if s == want {
				return
			}
		case <-late:
			b.t.Fatalf("device is not %v", want)
		}
	}
}

func (b *bench) cut() { b.reach(true, true) }

// reach says whether dials succeed, and may break the streams.
func (b *bench) reach(up, cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = !up
	if !cut {
		return
	}
	for _, s := range b.streams {
		s.Cut()
	}
	b.streams = nil
}

// openTTY opens a tty as an application does: raw is what the PTY is already.
func openTTY(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// everyByte is n bytes in random order in which each value occurs often.
func everyByte(seed uint64, n int) []byte {
	b := bridgetest.Noise(seed, n)
	for i := range 256 {
		b[i*n/256] = byte(i)
	}
	return b
}

// exchange sends both ways at once and compares.
func exchange(t *testing.T, a, b io.ReadWriter, fromA, fromB []byte, while func()) {
	t.Helper()
	var all sync.WaitGroup
	send := func(to io.Writer, data []byte) {
		if _, err := to.Write(data); err != nil {
			t.Error(err)
		}
	}
	receive := func(who string, from io.Reader, want []byte) {
		have, err := bridgetest.ReadExactly(from, len(want))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s: differs from the %d bytes sent: %v", who, len(want), err)
		}
	}
	all.Go(func() { send(a, fromA) })
	all.Go(func() { send(b, fromB) })
	all.Go(func() { receive("b", b, fromA) })
	all.Go(func() { receive("a", a, fromB) })
	while()
	all.Wait()
}

func TestPTYBothWays(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	s, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}})
	if err != nil || s.Where != link {
		t.Fatal(s, err)
	}
	node, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	app := openTTY(t, link)
	b.await(registry.StateInUse)
	exchange(t, app, b.stick, everyByte(1, 65536), everyByte(2, 65536), func() {})
	exchange(t, app, b.stick, everyByte(3, 262144), everyByte(4, 262144), func() {
		for range 5 {
			b.cut()
			b.resumed()
		}
	})
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	b.await(registry.StateAvailable)
	// Nobody has it open: the next to open it must not see this.
	if _, err := b.stick.Write([]byte("stale")); err != nil {
		t.Fatal(err)
	}
	if now, err := os.Readlink(link); err != nil || now != node {
		t.Errorf("link was %s and is %s, %v", node, now, err)
	}
	app = openTTY(t, link)
	b.await(registry.StateInUse)
	exchange(t, app, b.stick, []byte("again"), []byte("fresh"), func() {})
	_ = app.Close()
	if all := b.attacher.Statuses(); len(all) != 1 || all[0].Lost != 0 || all[0].Gaps != 0 || all[0].Sent != 65536+262144+5 {
		t.Errorf("%+v", all)
	}
	if err := b.attacher.Detach(s.ID); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("link is still there: %v", err)
	}
}

// resumed waits until the session has a stream again.
func (b *bench) resumed() {
	b.eventually("session has a stream", func() bool {
		s := b.publisher.Sessions()
		return len(s) == 1 && s[0].Connected
	})
}

func TestTCPBothWays(t *testing.T) {
	b := newBench(t, 0)
	s, err := b.attacher.Attach(attach.Spec{Device: "lab", TCP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	app, err := net.Dial("tcp", s.Where)
	if err != nil {
		t.Fatal(err)
	}
	b.await(registry.StateInUse)
	exchange(t, app, b.stick, everyByte(1, 65536), everyByte(2, 65536), func() {})
	second, err := net.Dial("tcp", s.Where)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := second.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a second client got %d bytes, %v", n, err)
	}
	_ = second.Close()
	exchange(t, app, b.stick, everyByte(3, 262144), everyByte(4, 262144), func() {
		b.cut()
		b.resumed()
	})
	// What was written just before the close arrives.
	if _, err := app.Write([]byte("goodbye")); err != nil {
		t.Fatal(err)
	}
	_ = app.Close()
	if have, err := bridgetest.ReadExactly(b.stick, 7); err != nil || string(have) != "goodbye" {
		t.Errorf("%q, %v", have, err)
	}
	b.await(registry.StateAvailable)
}

// TestPTYHangUp: after hold the application is hung up; the link leads to a
// new terminal that works.
func TestPTYHangUp(t *testing.T) {
	b := newBench(t, 200*time.Millisecond)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	app := openTTY(t, link)
	b.await(registry.StateInUse)
	exchange(t, app, b.stick, []byte("to"), []byte("fro"), func() {})
	b.reach(false, true)
	if n, err := app.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("after hold the application read %d bytes, %v", n, err)
	}
	_ = app.Close()
	b.reach(true, false)
	b.eventually("a new terminal stands", func() bool {
		_, err := os.Stat(link)
		return err == nil && b.attacher.Statuses()[0].State == use.Waiting
	})
	app = openTTY(t, link)
	b.eventually("session is on", func() bool { return b.attacher.Statuses()[0].State == use.Connected })
	exchange(t, app, b.stick, []byte("to"), []byte("fro"), func() {})
	_ = app.Close()
}

// TestPTYLineSettings: what the application sets on its terminal, the device's
// tty gets, after the bytes before it; a later session begins with it.
func TestPTYLineSettings(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	inForce := func() string {
		if s := b.publisher.Sessions(); len(s) == 1 {
			return s[0].Line.String()
		}
		return "no session"
	}
	app := openTTY(t, link)
	b.eventually("the default", func() bool { return inForce() == "115200n81" })
	setBaud(t, app, 250000)
	b.eventually("250000", func() bool { return inForce() == "250000n81" })
	exchange(t, app, b.stick, everyByte(1, 5000), everyByte(2, 5000), func() { setBaud(t, app, 57600) })
	b.eventually("57600", func() bool { return inForce() == "57600n81" })
	_ = app.Close()
	b.eventually("released", func() bool { return inForce() == "no session" })
	app = openTTY(t, link)
	b.eventually("57600 again", func() bool { return inForce() == "57600n81" })
	_ = app.Close()
}

func setBaud(t testing.TB, tty *os.File, baud uint32) {
	t.Helper()
	editTTY(t, tty, func(s *unix.Termios) {
		s.Cflag = s.Cflag&^unix.CBAUD | unix.BOTHER
		s.Ispeed, s.Ospeed = baud, baud
	})
}

// BenchmarkPTYPingPong is a 16-byte round trip through a PTY, both ends of a
// session on an in-memory stream, and the stick's PTY.
func BenchmarkPTYPingPong(bench *testing.B) {
	b := newBench(bench, 0)
	link := filepath.Join(bench.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		bench.Fatal(err)
	}
	app := openTTY(bench, link)
	b.await(registry.StateInUse)
	go func() {
		buf := make([]byte, 16)
		for {
			if _, err := io.ReadFull(b.stick, buf); err != nil {
				return
			}
			if _, err := b.stick.Write(buf); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 16)
	bench.ReportAllocs()
	for bench.Loop() {
		if _, err := app.Write(buf); err != nil {
			bench.Fatal(err)
		}
		if _, err := io.ReadFull(app, buf); err != nil {
			bench.Fatal(err)
		}
	}
	_ = app.Close()
}

// TestPTYBeforeSession: what an application sets and writes while there is no
// session yet is done in that order once there is one.
func TestPTYBeforeSession(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	b.reach(false, true)
	app := openTTY(t, link)
	if err := app.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// More than kernels keep: a block is written only if somebody reads, and it
	// has not left for the stick before that reads.
	const block = 30000
	for i, baud := range []uint32{1200, 2400} {
		setBaud(t, app, baud)
		if _, err := app.Write(bytes.Repeat([]byte{byte(i)}, block)); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	b.reach(true, false)
	inForce := func(want string) {
		t.Helper()
		b.eventually(want, func() bool {
			s := b.publisher.Sessions()
			return len(s) == 1 && s[0].Line.String() == want
		})
	}
	inForce("1200n81")
	got := make([]byte, 2*block)
	want := append(make([]byte, block), bytes.Repeat([]byte{1}, block)...)
	if _, err := io.ReadFull(b.stick, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the stick got what was not written: %v", err)
	}
	inForce("2400n81")
	_ = app.Close()
}

// TestPTYSetAtOnce: what an application sets before its open is noticed counts.
func TestPTYSetAtOnce(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 30 && !t.Failed(); i++ {
		app := openTTY(t, link)
		setBaud(t, app, uint32(1000+i))
		want := fmt.Sprintf("%dn81", 1000+i)
		b.eventually(want, func() bool {
			s := b.publisher.Sessions()
			return len(s) == 1 && s[0].Line.String() == want
		})
		_ = app.Close()
		b.eventually("released", func() bool { return len(b.publisher.Sessions()) == 0 })
	}
}

// TestPTYShortOpens: programs that open and close at once, as stty does, leave
// nothing behind that is in the way of the next.
func TestPTYShortOpens(t *testing.T) {
	b := newBench(t, 0)
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	dialed := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.dialed
	}
	for i := 0; i < 20 && !t.Failed(); i++ {
		b.mu.Lock()
		b.late = true
		before := b.dialed
		b.mu.Unlock()
		short := openTTY(t, link)
		b.eventually("the short open has dialed", func() bool { return dialed() > before })
		_ = short.Close()
		app := openTTY(t, link)
		setBaud(t, app, uint32(1000+i))
		want := fmt.Sprintf("%dn81", 1000+i)
		b.eventually(want, func() bool {
			s := b.publisher.Sessions()
			return len(s) == 1 && s[0].Line.String() == want && b.attacher.Statuses()[0].State == use.Connected
		})
		_ = app.Close()
		b.eventually("released", func() bool { return len(b.publisher.Sessions()) == 0 })
	}
}
