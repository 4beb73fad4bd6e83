package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serialspan/serialspan/bridge/session"
)

// peer is one End with what its local side wrote and got, for the model.
type peer struct {
	end      *session.End
	wrote    []byte // all that End took
	got      []byte // all that was delivered
	queue    []item // received, not yet delivered: the slow reader
	controls int    // sent
	seen     []placedControl
	sent     []placedControl
	wire     []byte // written to the stream, not yet arrived
	partial  []byte // arrived, not a whole frame yet
	lost     int    // given up as stale
}

type item struct {
	data    []byte
	control session.Control
	skipped int
}

type placedControl struct {
	at   int // bytes of data before it
	mark uint64
}

func (p *peer) flush(now time.Duration) {
	for {
		out := p.end.Output(now, nil)
		if len(out) == 0 {
			return
		}
		p.wire = append(p.wire, out...)
	}
}

// arrive moves n bytes of from's wire to p.
func (p *peer) arrive(now time.Duration, from *peer, n int) error {
	n = min(n, len(from.wire))
	p.partial = append(p.partial, from.wire[:n]...)
	from.wire = from.wire[n:]
	for {
		f, size, err := session.Decode(p.partial)
		if err != nil || size == 0 {
			return err
		}
		event, err := p.end.Input(now, f)
		if err != nil {
			return err
		}
		if len(event.Data) > 0 {
			p.queue = append(p.queue, item{data: bytes.Clone(event.Data)})
		}
		if event.Control.Kind != 0 {
			p.queue = append(p.queue, item{control: event.Control})
		}
		if event.Skipped > 0 {
			p.queue = append(p.queue, item{skipped: event.Skipped})
		}
		p.partial = p.partial[size:]
	}
}

// deliver lets the local side take up to n bytes or controls. For bytes that
// were given up it takes what from wrote, so that got stays comparable.
func (p *peer) deliver(now time.Duration, from *peer, n int) {
	for n > 0 && len(p.queue) > 0 {
		head := &p.queue[0]
		if head.skipped > 0 {
			p.got = append(p.got, from.wrote[len(p.got):len(p.got)+head.skipped]...)
			p.lost += head.skipped
			p.end.Delivered(now, head.skipped)
			p.queue = p.queue[1:]
			continue
		}
		if head.control.Kind != 0 {
			p.seen = append(p.seen, placedControl{len(p.got), head.control.Millis})
			p.end.Delivered(now, 1)
			p.queue, n = p.queue[1:], n-1
			continue
		}
		k := min(n, len(head.data))
		p.got = append(p.got, head.data[:k]...)
		p.end.Delivered(now, k)
		n -= k
		if head.data = head.data[k:]; len(head.data) == 0 {
			p.queue = p.queue[1:]
		}
	}
}

func connect(t interface{ Fatal(...any) }, now time.Duration, a, b *peer) {
	if err := a.end.Connect(now, b.end.Next(), b.end.Window()); err != nil {
		t.Fatal(err)
	}
	if err := b.end.Connect(now, a.end.Next(), a.end.Window()); err != nil {
		t.Fatal(err)
	}
}

func cut(ps ...*peer) {
	for _, p := range ps {
		p.end.Disconnect()
		p.wire, p.partial = nil, nil
	}
}

// TestModel checks two Ends against the simplest model there is: what one
// side's End took is, byte by byte and control by control, what the other
// side delivers, whatever is lost of the streams in between.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now time.Duration
		window := rapid.SampledFrom([]int{1, 7, 100, 5000, 40000}).Draw(t, "window")
		a, b := &peer{end: session.NewEnd(window)}, &peer{end: session.NewEnd(window)}
		if rapid.Bool().Draw(t, "max_stale") {
			a.end.SetMaxStale(time.Second)
			b.end.SetMaxStale(2 * time.Second)
		}
		connect(t, now, a, b)
		up := true
		next := byte(0)
		side := func() (*peer, *peer) {
			if rapid.Bool().Draw(t, "side") {
				return a, b
			}
			return b, a
		}
		size := rapid.IntRange(0, 2*window+3)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				p, _ := side()
				buf := make([]byte, size.Draw(t, "n"))
				for i := range buf {
					buf[i] = next
					next += 7
				}
				n := p.end.Write(now, buf)
				p.wrote = append(p.wrote, buf[:n]...)
				p.flush(now)
			},
			"control": func(t *rapid.T) {
				p, _ := side()
				c := session.Control{Kind: session.KindBreak, Millis: uint64(p.controls + 1)}
				ok, err := p.end.Control(c)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					p.controls++
					p.sent = append(p.sent, placedControl{len(p.wrote), c.Millis})
				}
				p.flush(now)
			},
			"arrive": func(t *rapid.T) {
				p, from := side()
				if err := p.arrive(now, from, size.Draw(t, "n")); err != nil {
					t.Fatal(err)
				}
			},
			"deliver": func(t *rapid.T) {
				p, from := side()
				p.deliver(now, from, size.Draw(t, "n"))
				p.flush(now)
			},
			"pass": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
				a.flush(now)
				b.flush(now)
			},
			"cut": func(t *rapid.T) {
				cut(a, b)
				up = false
			},
			"restart": func(t *rapid.T) {
				cut(a, b)
				up = false
				p, _ := side()
				end, err := session.Restore(window, p.end.Save())
				if err != nil {
					t.Fatal(err)
				}
				p.end, p.queue = end, nil // what was not delivered comes again
			},
			"join": func(t *rapid.T) {
				if !up {
					connect(t, now, a, b)
					up = true
				}
			},
			"": func(t *rapid.T) { // the invariants, after each step
				for _, pair := range [][2]*peer{{a, b}, {b, a}} {
					p, q := pair[0], pair[1]
					if !bytes.HasPrefix(p.wrote, q.got) {
						t.Fatalf("delivered %x of %x", q.got, p.wrote)
					}
					if p.end.Unacknowledged() > window || q.end.Undelivered() > window {
						t.Fatalf("%d unacknowledged, %d undelivered, window %d", p.end.Unacknowledged(), q.end.Undelivered(), window)
					}
				}
			},
		})
		settle(t, &now, a, b, up)
	})
}

// settle reconnects, lets everything through and compares.
func settle(t *rapid.T, now *time.Duration, a, b *peer, up bool) {
	if !up {
		connect(t, *now, a, b)
	}
	for range 100000 {
		for _, pair := range [][2]*peer{{a, b}, {b, a}} {
			pair[0].flush(*now)
			if err := pair[1].arrive(*now, pair[0], 1<<20); err != nil {
				t.Fatal(err)
			}
			pair[1].deliver(*now, pair[0], 1<<20)
		}
		*now += 20 * time.Millisecond
		if a.end.Unacknowledged()+b.end.Unacknowledged() == 0 {
			break
		}
	}
	for _, pair := range [][2]*peer{{a, b}, {b, a}} {
		p, q := pair[0], pair[1]
		if !bytes.Equal(p.wrote, q.got) || p.end.Unacknowledged() != 0 || q.end.Undelivered() != 0 {
			t.Fatalf("wrote %d, delivered %d, unacknowledged %d", len(p.wrote), len(q.got), p.end.Unacknowledged())
		}
		if int(p.end.Dropped()) != q.lost {
			t.Fatalf("%d bytes given up, %d skipped", p.end.Dropped(), q.lost)
		}
		if fmt.Sprint(p.sent) != fmt.Sprint(q.seen) {
			t.Fatalf("controls: sent %v, seen %v", p.sent, q.seen)
		}
	}
}

// TestPingPongCostsNoACK counts what a request and its answer put on the wire.
func TestPingPongCostsNoACK(t *testing.T) {
	a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
	connect(t, 0, a, b)
	var now time.Duration
	for range 50 {
		for _, pair := range [][2]*peer{{a, b}, {b, a}} {
			p, q := pair[0], pair[1]
			p.end.Write(now, make([]byte, 16))
			out := p.end.Output(now, nil)
			if more := p.end.Output(now, nil); len(more) != 0 {
				t.Fatalf("a second write of %x", more)
			}
			p.wire = out
			if err := q.arrive(now, p, len(out)); err != nil {
				t.Fatal(err)
			}
			q.deliver(now, p, 16)
			if q.end.Due(now) {
				t.Fatal("an ACK of its own within the delay")
			}
			now += 100 * time.Microsecond
		}
	}
	if n := a.end.Unacknowledged(); n > 16 {
		t.Fatalf("%d bytes unacknowledged although ACKs came along", n)
	}
}

func TestAckAlone(t *testing.T) {
	tests := []struct {
		name  string
		bytes int
		after time.Duration
		due   bool
	}{
		{"one byte at once", 1, 0, false},
		{"one byte after 19 ms", 1, 19 * time.Millisecond, false},
		{"one byte after 20 ms", 1, 20 * time.Millisecond, true},
		{"16 KiB at once", 16384, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
			connect(t, 0, a, b)
			a.end.Write(0, make([]byte, test.bytes))
			a.flush(0)
			if err := b.arrive(0, a, 1<<20); err != nil {
				t.Fatal(err)
			}
			b.deliver(0, a, test.bytes)
			if due := b.end.Due(test.after); due != test.due {
				t.Fatalf("due %v, want %v", due, test.due)
			}
			if wake := b.end.Wake(); wake != 20*time.Millisecond {
				t.Fatalf("wake at %v, want 20ms", wake)
			}
			b.flush(20 * time.Millisecond)
			if err := a.arrive(0, b, 1<<20); err != nil || a.end.Unacknowledged() != 0 {
				t.Fatalf("%d unacknowledged, %v", a.end.Unacknowledged(), err)
			}
		})
	}
}

func TestLiveness(t *testing.T) {
	a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
	connect(t, 0, a, b)
	if a.flush(session.PingAfter - 1); len(a.wire) != 0 {
		t.Fatalf("sent %x before anything is late", a.wire)
	}
	if a.end.Wake() != session.PingAfter {
		t.Fatalf("wake at %v", a.end.Wake())
	}
	a.flush(session.PingAfter)
	if err := b.arrive(session.PingAfter, a, 100); err != nil {
		t.Fatal(err)
	}
	b.flush(session.PingAfter)
	if err := a.arrive(session.PingAfter, b, 100); err != nil {
		t.Fatal(err)
	}
	if err := a.end.Check(session.DeadAfter); err != nil {
		t.Fatalf("an answered peer: %v", err)
	}
	last := session.PingAfter + session.DeadAfter
	if err := a.end.Check(last); !errors.Is(err, session.ErrSilent) {
		t.Fatalf("a silent peer: %v", err)
	}
	if a.end.Wake() > last {
		t.Fatalf("wake at %v, after %v", a.end.Wake(), last)
	}
	a.end.Disconnect()
	if err := a.end.Check(last); err != nil {
		t.Fatalf("without a stream: %v", err)
	}
}

func TestCannotResume(t *testing.T) {
	a, b := &peer{end: session.NewEnd(0)}, &peer{end: session.NewEnd(0)}
	connect(t, 0, a, b)
	a.end.Write(0, []byte("0123456789"))
	a.flush(0)
	if err := b.arrive(0, a, 100); err != nil {
		t.Fatal(err)
	}
	b.deliver(0, a, 10)
	b.flush(time.Second)
	if err := a.arrive(time.Second, b, 100); err != nil {
		t.Fatal(err)
	}
	for _, next := range []uint64{0, 9, 11, 1 << 63} {
		if err := a.end.Connect(0, next, 1); !errors.Is(err, session.CodeCannotResume) {
			t.Errorf("resume at %d: %v", next, err)
		}
	}
	if err := a.end.Connect(0, 10, 1); err != nil {
		t.Error(err)
	}
}

// TestNoAllocation is the promise of the steady path.
func TestNoAllocation(t *testing.T) {
	a, b := connectedPair(t)
	for _, size := range []int{16, session.MaxData} {
		buf, wire := make([]byte, size), make([]byte, 0, 2*session.MaxFrame)
		var now time.Duration
		round := func() {
			now += time.Millisecond
			if a.Write(now, buf) != size || b.Write(now, buf) != size {
				t.Fatal("no room")
			}
			wire = hand(t, now, a, b, wire)
			wire = hand(t, now, b, a, wire)
		}
		for range 20 {
			round() // the rings grow to what this load needs
		}
		if n := testing.AllocsPerRun(1000, round); n != 0 {
			t.Errorf("%v allocations per round of %d bytes", n, size)
		}
	}
}

// TestExpect: what is written before the stream is there keeps to the peer's window.
func TestExpect(t *testing.T) {
	e := session.NewEnd(1000)
	e.Expect(100)
	if n := e.Write(0, make([]byte, 500)); n != 100 || e.Room() != 0 {
		t.Errorf("%d bytes taken, room for %d", n, e.Room())
	}
	e = session.NewEnd(1000)
	e.Expect(5000)
	if n := e.Write(0, make([]byte, 5000)); n != 1000 {
		t.Errorf("%d bytes taken by a smaller window of its own", n)
	}
}
