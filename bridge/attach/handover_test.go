package attach_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// What the application wrote while the owner was out of reach stands in the
// session, in the reader's hands and in the kernel. It arrives once, and what
// the application set in between at its place.
func TestRestartWithFullSession(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	r.reach(false)
	first, second := everyByte(1, 300_000), everyByte(2, 5000)
	written := make(chan error)
	go func() {
		_, err := app.Write(first)
		if err == nil {
			setBaud(t, app, 9600)
			_, err = app.Write(second)
		}
		written <- err
	}()
	r.eventually("the session is full", func() bool { return r.status().Sent > 262144-4096-128 }) // the next piece does not fit beside what is kept free for controls
	for range 3 {
		r.restart()
		r.becomes(use.Holding)
	}
	r.reach(true)
	wantRead(t, r.stick, append(first, second...))
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	r.becomes(use.Connected)
	r.eventually("the line is as the application has set it", func() bool {
		s := r.publisher.Sessions()
		return len(s) == 1 && s[0].Line.Baud == 9600
	})
	if s := r.status(); s.Gaps != 0 || s.Lost != 0 || s.Sent != 305_000 {
		t.Errorf("%+v", s)
	}
}

// What the application has not read stays with the owner, or in the terminal.
func TestRestartWithSlowApplication(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	data := everyByte(3, 200_000)
	var all sync.WaitGroup
	all.Go(func() { mustWrite(t, r.stick, data) })
	r.eventually("the queue is full", func() bool { return r.status().Received >= 100_000 })
	for at := 0; at < 30_000; at += 10_000 {
		r.restart()
		r.becomes(use.Connected)
		wantRead(t, app, data[at:at+10_000])
	}
	wantRead(t, app, data[30_000:])
	all.Wait()
	if s := r.status(); s.Gaps != 0 || s.Lost != 0 || s.Resumed != 3 || s.Received != 200_000 {
		t.Errorf("%+v", s)
	}
}

// What an application wrote before it closed is delivered by the next process.
func TestRestartAfterClose(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	r.reach(false)
	mustWrite(t, app, []byte("last words"))
	r.eventually("the session has it", func() bool { return r.status().Sent == 10 })
	_ = app.Close()
	r.restart()
	r.restart()
	r.reach(true)
	wantRead(t, r.stick, []byte("last words"))
	r.await(registry.StateAvailable)
	// The next application is another use.
	app = r.open()
	r.becomes(use.Connected)
	mustWrite(t, r.stick, []byte("fresh"))
	wantRead(t, app, []byte("fresh"))
}

// While no agent runs, applications come and go and set what they like.
func TestRestartSeesWhatHappenedMeanwhile(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	r.end()
	mustWrite(t, app, []byte("before"))
	setBaud(t, app, 19200)
	mustWrite(t, app, []byte("after"))
	r.start()
	wantRead(t, r.stick, []byte("beforeafter"))
	r.wantBaud(19200)

	_ = app.Close()
	r.await(registry.StateAvailable)
	r.end()
	app = r.open()
	setBaud(t, app, 38400)
	mustWrite(t, app, []byte("another"))
	r.start()
	wantRead(t, r.stick, []byte("another"))
	r.wantBaud(38400)
	if s := r.status(); s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
}

func (r *reborn) wantBaud(want uint32) {
	r.t.Helper()
	r.eventually("the device has the rate", func() bool {
		s := r.publisher.Sessions()
		return len(s) == 1 && s[0].Line.Baud == want
	})
}

// After a crash nothing is known of what was on its way: nothing is sent
// again, both ends count a gap, and the application keeps its terminal.
func TestCrash(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"killed", same},
		{"record of another version", func(b []byte) []byte { b[4]++; return b }},
		{"torn record", func(b []byte) []byte { return b[:len(b)-3] }},
		{"empty record", func([]byte) []byte { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReborn(t)
			app := r.open()
			r.becomes(use.Connected)
			setBaud(t, app, 19200)
			r.wantBaud(19200)
			mustWrite(t, app, []byte("hello"))
			wantRead(t, r.stick, []byte("hello"))
			r.reach(false)
			mustWrite(t, app, []byte("lost"))
			r.eventually("the session has it", func() bool { return r.status().Sent == 9 })
			node, err := os.Readlink(r.spec.PTY.Link)
			if err != nil {
				t.Fatal(err)
			}
			r.crash(tt.change)
			r.reach(true)
			r.becomes(use.Connected)
			mustWrite(t, app, []byte("again"))
			wantRead(t, r.stick, []byte("again"))
			mustWrite(t, r.stick, []byte("answer"))
			wantRead(t, app, []byte("answer"))
			if now, err := os.Readlink(r.spec.PTY.Link); err != nil || now != node {
				t.Errorf("the link points to %q, %v, want %q", now, err, node)
			}
			if s := r.status(); s.Gaps != 1 {
				t.Errorf("%+v, want a gap", s)
			}
			r.eventually("the owner counts a gap", func() bool {
				s := r.publisher.Sessions()
				return len(s) == 1 && s[0].Gaps == 1
			})
			if tt.name == "killed" {
				r.wantBaud(19200)
			}
			if !strings.Contains(r.log.String(), "terminal taken over from an agent that was killed") {
				t.Error("the log does not tell")
			}
			// What is left by that process is whole again.
			r.restart()
			mustWrite(t, app, []byte("whole"))
			wantRead(t, r.stick, []byte("whole"))
			if s := r.status(); s.Gaps != 1 || s.Resumed != 1 {
				t.Errorf("%+v, want one gap and one resume", s)
			}
		})
	}
}

// A record that was used is not used again: not even if the process that used
// it is killed at once.
func TestRestartThenCrash(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	r.reach(false)
	mustWrite(t, app, []byte("once"))
	r.eventually("the session has it", func() bool { return r.status().Sent == 4 })
	r.restart()
	r.reach(true)
	wantRead(t, r.stick, []byte("once"))
	r.crash(same)
	r.becomes(use.Connected)
	mustWrite(t, app, []byte("more"))
	wantRead(t, r.stick, []byte("more"))
	if s := r.status(); s.Gaps != 1 || s.Resumed != 0 {
		t.Errorf("%+v, want a gap and no resume: the record was used", s)
	}
}

// Another device at the same place is not given to the same application.
func TestRestartWithAnotherDevice(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	r.end()
	r.spec.Device = "lab@elsewhere"
	r.start()
	_ = app.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := app.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the application reads %d bytes, %v, want to be hung up", n, err)
	}
	again := r.open()
	r.becomes(use.Connected)
	mustWrite(t, again, []byte("new"))
	wantRead(t, r.stick, []byte("new"))
}

// A hang-up is one also for who has the terminal kept.
func TestHangUpOfKeptTerminal(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	if err := r.attacher.Detach(r.spec.PTY.Link); err != nil {
		t.Fatal(err)
	}
	_ = app.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := app.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the application reads %d bytes, %v, want to be hung up", n, err)
	}
	if len(r.files.kept) != 0 {
		t.Errorf("kept are %v", r.files.kept)
	}
	if _, err := os.Lstat(r.spec.PTY.Link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
}

// Who was kicked stays polite.
func TestRestartWhileKicked(t *testing.T) {
	r := newReborn(t)
	app := r.open()
	r.becomes(use.Connected)
	other, err := r.bench.attacher.OpenRaw(context.Background(), "lab", use.TakeForce)
	if err != nil {
		t.Fatal(err)
	}
	r.becomes(use.Kicked)
	r.restart()
	r.becomes(use.Kicked)
	mustWrite(t, other, []byte("mine"))
	wantRead(t, r.stick, []byte("mine"))
	_ = other.Close()
	r.becomes(use.Connected)
	mustWrite(t, app, []byte("ours"))
	wantRead(t, r.stick, []byte("ours"))
}

// A terminal that cannot be taken over is hung up, and there is a new one: the
// attachment does not stay away for it.
func TestRestartWithSpoiledFiles(t *testing.T) {
	for name, spoil := range map[string]func(master, memory *os.File) []*os.File{
		"no master":   func(master, memory *os.File) []*os.File { _ = master.Close(); return []*os.File{memory} },
		"no record":   func(master, memory *os.File) []*os.File { _ = memory.Close(); return []*os.File{master} },
		"locked node": func(master, memory *os.File) []*os.File { lockNode(master); return []*os.File{master, memory} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReborn(t)
			app := r.open()
			r.becomes(use.Connected)
			r.files.spoil = spoil
			r.restart()
			r.files.spoil = nil
			_ = app.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := app.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the application reads %d bytes, %v, want to be hung up", n, err)
			}
			again := r.open()
			r.becomes(use.Connected)
			mustWrite(t, again, []byte("new"))
			wantRead(t, r.stick, []byte("new"))
			r.restart() // the new one is kept as the old was
			mustWrite(t, r.stick, []byte("kept"))
			wantRead(t, again, []byte("kept"))
			if s := r.status(); s.Resumed != 1 || s.Gaps != 0 {
				t.Errorf("%+v, want one resume", s)
			}
		})
	}
}

// lockNode makes each further open of a terminal fail.
func lockNode(master *os.File) {
	raw, err := master.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 1) })
	}
}
