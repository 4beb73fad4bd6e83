package bridge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// queue is a bounded queue of bytes between a writer and a reader, the part
// of which all in-memory twins here are made. It works in synctest bubbles.
type queue struct {
	mu         sync.Mutex
	changed    *sync.Cond
	buf        []byte
	size       int
	left       int   // bytes until the queue breaks; 0: never
	err        error // after close: what both sides get
	frozen     bool  // takes bytes and gives none
	deaf       bool  // frozen, and its reader does not learn of the end either
	readUntil  deadline
	writeUntil deadline
}

func newQueue(size int) *queue {
	q := &queue{size: size}
	q.changed = sync.NewCond(&q.mu)
	return q
}

type deadline struct {
	timer  *time.Timer
	passed bool
}

func (q *queue) setDeadline(d *deadline, t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.passed = nil, false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		q.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if d.timer == timer {
			d.passed = true
			q.changed.Broadcast()
		}
	})
	d.timer = timer
}

func (q *queue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case len(q.buf) > 0 && !q.frozen:
			n := copy(p, q.buf)
			q.buf = append(q.buf[:0], q.buf[n:]...)
			q.changed.Broadcast()
			return n, nil
		case q.err != nil && (!q.deaf || q.err == net.ErrClosed):
			return 0, q.err
		case q.readUntil.passed:
			return 0, os.ErrDeadlineExceeded
		}
		q.changed.Wait()
	}
}

func (q *queue) tryWrite(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	n := min(len(p), q.size-len(q.buf))
	if q.left > 0 {
		n = min(n, q.left)
		if q.left -= n; q.left == 0 {
			q.err = errCut // in the middle of a frame, most often
		}
	}
	if n > 0 {
		q.buf = append(q.buf, p[:n]...)
		q.changed.Broadcast()
	}
	return n, nil
}

func (q *queue) write(p []byte) (int, error) {
	done := 0
	for {
		n, err := q.tryWrite(p[done:])
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
		q.mu.Lock()
		for len(q.buf) >= q.size && q.err == nil && !q.writeUntil.passed {
			q.changed.Wait()
		}
		passed := q.writeUntil.passed
		q.mu.Unlock()
		if passed {
			return done, os.ErrDeadlineExceeded
		}
	}
}

// close ends the queue; drop loses what is in it.
func (q *queue) close(err error, drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil || err == net.ErrClosed {
		q.err = err
	}
	if drop {
		q.buf = nil
	}
	for _, d := range []*deadline{&q.readUntil, &q.writeUntil} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	q.changed.Broadcast()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.buf)
}

func (q *queue) freeze() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen = true
}

func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buf = nil
	q.changed.Broadcast()
}

// memStream is one end of an in-memory session stream.
type memStream struct {
	in, out *queue
}

var errCut = errors.New("the path is cut")

func newStreamPair(size int) (a, b *memStream) {
	x, y := newQueue(size), newQueue(size)
	return &memStream{in: x, out: y}, &memStream{in: y, out: x}
}

func (s *memStream) Read(p []byte) (int, error)  { return s.in.read(p) }
func (s *memStream) Write(p []byte) (int, error) { return s.out.write(p) }

// Close lets what was written arrive, as a QUIC stream does.
func (s *memStream) Close() error {
	s.in.close(net.ErrClosed, true)
	s.out.close(io.EOF, false)
	return nil
}

// cut loses all that is on the way and tells both ends.
func (s *memStream) cut() {
	s.in.close(errCut, true)
	s.out.close(errCut, true)
}

func (s *memStream) SetReadDeadline(t time.Time) error {
	s.in.setDeadline(&s.in.readUntil, t)
	return nil
}

func (s *memStream) SetWriteDeadline(t time.Time) error {
	s.out.setDeadline(&s.out.writeUntil, t)
	return nil
}

func (s *memStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

type memAddr struct{}

func (memAddr) Network() string           { return "memory" }
func (memAddr) String() string            { return "memory" }
func (s *memStream) LocalAddr() net.Addr  { return memAddr{} }
func (s *memStream) RemoteAddr() net.Addr { return memAddr{} }

// memPort is the in-memory twin of a serial port: fromDevice and toDevice are
// what the device sends and gets, with room for a tty layer's 4 KiB.
type memPort struct {
	fromDevice, toDevice *queue

	mu    sync.Mutex
	line  line.Settings
	lines []line.Settings // all that were set
	pins  memPins
	taken chan struct{} // see slow
	letGo chan struct{}
}

func newMemPort() *memPort {
	return &memPort{fromDevice: newQueue(4096), toDevice: newQueue(4096), line: line.Default()}
}

func (p *memPort) Read(b []byte) (int, error)     { return p.ReadTaking(b, func() {}) }
func (p *memPort) Write(b []byte) (int, error)    { return p.toDevice.write(b) }
func (p *memPort) TryWrite(b []byte) (int, error) { return p.toDevice.tryWrite(b) }
func (p *memPort) PurgeInput() error              { p.fromDevice.clear(); return nil }
func (p *memPort) PurgeOutput() error             { p.toDevice.clear(); return nil }
func (p *memPort) Drain(context.Context) error    { return nil }

// ReadTaking also keeps what it took until it is let go, if slow was called.
func (p *memPort) ReadTaking(b []byte, taking func()) (int, error) {
	q := p.fromDevice
	q.mu.Lock()
	for len(q.buf) == 0 && q.err == nil {
		q.changed.Wait()
	}
	taking()
	q.mu.Unlock()
	n, err := q.read(b)
	p.mu.Lock()
	taken, letGo := p.taken, p.letGo
	p.mu.Unlock()
	if n > 0 && taken != nil {
		taken <- struct{}{}
		<-letGo
	}
	return n, err
}

// slow makes reads keep what they took: taken tells of one, and it returns when
// letGo is closed.
func (p *memPort) slow() (taken <-chan struct{}, letGo chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken, p.letGo = make(chan struct{}, 10), make(chan struct{})
	return p.taken, p.letGo
}

func (p *memPort) SetWriteDeadline(t time.Time) error {
	p.toDevice.setDeadline(&p.toDevice.writeUntil, t)
	return nil
}

func (p *memPort) SetLine(s line.Settings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = s
	p.lines = append(p.lines, s)
	return nil
}

func (p *memPort) Line() line.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line
}

func (p *memPort) Close() error {
	p.unplug(net.ErrClosed)
	return nil
}

func (p *memPort) unplug(err error) {
	p.fromDevice.close(err, true)
	p.toDevice.close(err, true)
}
