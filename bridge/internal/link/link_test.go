package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/session"
)

// local is a local side that takes so many bytes at once and the rest once let.
type local struct {
	mu       sync.Mutex
	changed  *sync.Cond
	room     int
	pressed  bool
	got      []byte
	controls []session.Control
}

func newLocal(room int) *local {
	l := &local{room: room}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *local) TryWrite(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(p), l.room)
	l.room -= n
	l.got = append(l.got, p[:n]...)
	return n, nil
}

func (l *local) Write(p []byte) (int, error) {
	for done := 0; ; {
		n, _ := l.TryWrite(p[done:])
		if done += n; done == len(p) {
			return done, nil
		}
		l.mu.Lock()
		for l.room == 0 && !l.pressed {
			l.changed.Wait()
		}
		late := l.pressed
		l.mu.Unlock()
		if late {
			return done, os.ErrDeadlineExceeded
		}
	}
}

func (l *local) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pressed = !t.IsZero()
	l.changed.Broadcast()
	return nil
}

func (l *local) Apply(_ context.Context, c session.Control) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.controls = append(l.controls, c)
}

func (l *local) Purge(uint64) {}

func (l *local) let(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room += n
	l.changed.Broadcast()
}

func (l *local) have() (string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.got), len(l.controls)
}

var id = session.ID{1}

const window = 4096

func newLink(to link.Sink) *link.Link { return link.New(id, window, to, slog.New(slog.DiscardHandler)) }

// join gives both links a new stream, and returns what cuts it and what says why
// each ended.
func join(t *testing.T, a, b *link.Link) (cut func(), ends func() (a, b error)) {
	t.Helper()
	x, y := net.Pipe()
	nextA, nextB := a.Next(), b.Next()
	if err := errors.Join(a.Connect(x, nextB, window), b.Connect(y, nextA, window)); err != nil {
		t.Fatal(err)
	}
	endA, endB := make(chan error, 1), make(chan error, 1)
	go func() { endA <- a.Serve(x, link.NewFrameReader(x)) }()
	go func() { endB <- b.Serve(y, link.NewFrameReader(y)) }()
	return func() { _ = x.Close() }, func() (error, error) { return <-endA, <-endB }
}

// TestLink: what is sent arrives once and in order, over a stream that breaks,
// and a local side that takes nothing holds it up.
func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := newLocal(4)
		a, b := newLink(newLocal(0)), newLink(far)
		cut, ends := join(t, a, b)
		if n, err := a.Send([]byte("one ")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		_, _ = a.Send([]byte("two "))
		if err := a.Control(session.Control{Kind: session.KindLine, Line: "9600n81"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if have, controls := far.have(); have != "one " || controls != 0 {
			t.Errorf("%q, %d controls; want the first four and no control", have, controls)
		}
		cut()
		if errA, errB := ends(); errA == nil || errB == nil {
			t.Errorf("a stream that broke: %v, %v", errA, errB)
		}
		_, _ = a.Send([]byte("three"))
		if _, connected := a.View(); connected {
			t.Error("connected without a stream")
		}
		_, ends = join(t, a, b)
		far.let(100)
		if !a.Settled() {
			t.Error("not confirmed")
		}
		if have, controls := far.have(); have != "one two three" || controls != 1 {
			t.Errorf("%q, %d controls", have, controls)
		}
		if lost := a.Close(session.CloseError{Code: session.CodeKicked}); lost != 0 {
			t.Errorf("%d bytes lost", lost)
		}
		errA, errB := ends()
		if !errors.Is(errA, link.ErrClosed) || !errors.Is(errB, session.CodeKicked) {
			t.Errorf("%v, %v", errA, errB)
		}
		if _, err := a.Send([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("sent on a closed link: %v", err)
		}
		b.Close(session.CloseError{})
		a.Wait()
		b.Wait()
	})
}

// TestRest: a link that is parked goes on in another; what its local side had
// not taken is sent again by the peer.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newLocal(4), newLocal(100)
		a, b := newLink(near), newLink(far)
		_, ends := join(t, a, b)
		_, _ = b.Send([]byte("one two"))
		synctest.Wait()
		saved, age, ok := a.Park()
		_, _ = ends()
		a.Wait()
		if _, _, again := a.Park(); !ok || again {
			t.Fatalf("parked: %v, and again: %v", ok, again)
		}
		end, err := session.Restore(window, saved)
		if err != nil {
			t.Fatal(err)
		}
		a = link.Restore(id, end, age, near, slog.New(slog.DiscardHandler))
		near.let(100)
		_, ends = join(t, a, b)
		if !b.Settled() {
			t.Error("not confirmed")
		}
		if have, _ := near.have(); have != "one two" {
			t.Errorf("%q", have)
		}
		a.Close(session.CloseError{Code: session.CodeNormal})
		_, _ = ends()
		b.Close(session.CloseError{})
		a.Wait()
		b.Wait()
	})
}

func TestFrameReader(t *testing.T) {
	var stream []byte
	for _, code := range []session.Code{session.CodeNormal, session.CodeKicked} {
		stream = session.AppendClose(stream, session.CloseError{Code: code, Text: "because"})
	}
	for _, test := range []struct {
		name   string
		from   io.Reader
		frames int
		want   error
	}{
		{"at once", bytes.NewReader(stream), 2, io.EOF},
		{"byte by byte", iotest.OneByteReader(bytes.NewReader(stream)), 2, io.EOF},
		{"cut short", bytes.NewReader(stream[:len(stream)-1]), 1, io.ErrUnexpectedEOF},
		{"broken", iotest.ErrReader(net.ErrClosed), 0, net.ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := link.NewFrameReader(test.from)
			for n := 0; ; n++ {
				f, err := r.Next()
				if err != nil {
					if n != test.frames || !errors.Is(err, test.want) {
						t.Errorf("%d frames, then %v; want %d, %v", n, err, test.frames, test.want)
					}
					return
				}
				if c, err := session.ParseClose(f.Payload); err != nil || c.Text != "because" {
					t.Errorf("%+v, %v", c, err)
				}
			}
		})
	}
}
