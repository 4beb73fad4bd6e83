package bridgetest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// Queue is a bounded queue of bytes between a writer and a reader, the part
// of which all in-memory twins here are made. It works in synctest bubbles.
type Queue struct {
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

func newQueue(size int) *Queue {
	q := &Queue{size: size}
	q.changed = sync.NewCond(&q.mu)
	return q
}

type deadline struct {
	timer  *time.Timer
	passed bool
}

func (q *Queue) setDeadline(d *deadline, t time.Time) {
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

// Read blocks until there are bytes, the deadline passes or the queue is closed.
func (q *Queue) Read(p []byte) (int, error) {
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

func (q *Queue) tryWrite(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	n := min(len(p), q.size-len(q.buf))
	if q.left > 0 {
		n = min(n, q.left)
		if q.left -= n; q.left == 0 {
			q.err = ErrCut // in the middle of a frame, most often
		}
	}
	if n > 0 {
		q.buf = append(q.buf, p[:n]...)
		q.changed.Broadcast()
	}
	return n, nil
}

// Write blocks until all of p is in the queue, the deadline passes or it is closed.
func (q *Queue) Write(p []byte) (int, error) {
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

// Close ends the queue; drop loses what is in it.
func (q *Queue) Close(err error, drop bool) {
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

// Len is how many bytes nobody has read.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.buf)
}

// Freeze makes the queue take bytes and give none.
func (q *Queue) Freeze() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen = true
}

// Vanish is Freeze, and the reader does not learn of the end either.
func (q *Queue) Vanish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen, q.deaf = true, true
}

// BreakAfter makes the queue break once n more bytes were written.
func (q *Queue) BreakAfter(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = n
}

func (q *Queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buf = nil
	q.changed.Broadcast()
}

// Stream is one end of an in-memory session stream.
type Stream struct {
	In, Out *Queue
}

// ErrCut is what both ends of a stream get that was cut.
var ErrCut = errors.New("the path is cut")

// NewStreams returns the two ends of a stream that has room for so many bytes each
// way.
func NewStreams(size int) (a, b *Stream) {
	x, y := newQueue(size), newQueue(size)
	return &Stream{In: x, Out: y}, &Stream{In: y, Out: x}
}

// Read implements net.Conn.
func (s *Stream) Read(p []byte) (int, error) { return s.In.Read(p) }

// Write implements net.Conn.
func (s *Stream) Write(p []byte) (int, error) { return s.Out.Write(p) }

// Close lets what was written arrive, as a QUIC stream does.
func (s *Stream) Close() error {
	s.In.Close(net.ErrClosed, true)
	s.Out.Close(io.EOF, false)
	return nil
}

// Cut loses all that is on the way and tells both ends.
func (s *Stream) Cut() {
	s.In.Close(ErrCut, true)
	s.Out.Close(ErrCut, true)
}

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.In.setDeadline(&s.In.readUntil, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.Out.setDeadline(&s.Out.writeUntil, t)
	return nil
}

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

// LocalAddr implements net.Conn.
func (s *Stream) LocalAddr() net.Addr { return memAddr{} }

// RemoteAddr implements net.Conn.
func (s *Stream) RemoteAddr() net.Addr { return memAddr{} }

// Port is the in-memory twin of a serial port: fromDevice and toDevice are
// what the device sends and gets, with room for a tty layer's 4 KiB.
type Port struct {
	FromDevice, ToDevice *Queue

	mu    sync.Mutex
	line  line.Settings
	lines []line.Settings // all that were set
	pins  memPins
	taken chan struct{} // see Slow
	letGo chan struct{}
}

// NewPort returns a port with default line settings and without modem lines.
func NewPort() *Port {
	return &Port{FromDevice: newQueue(4096), ToDevice: newQueue(4096), line: line.Default()}
}

// Read implements publish.Port.
func (p *Port) Read(b []byte) (int, error) { return p.ReadTaking(b, func() {}) }

// Write implements publish.Port.
func (p *Port) Write(b []byte) (int, error) { return p.ToDevice.Write(b) }

// TryWrite implements publish.Port.
func (p *Port) TryWrite(b []byte) (int, error) { return p.ToDevice.tryWrite(b) }

// PurgeInput implements publish.Port.
func (p *Port) PurgeInput() error { p.FromDevice.clear(); return nil }

// PurgeOutput implements publish.Port.
func (p *Port) PurgeOutput() error { p.ToDevice.clear(); return nil }

// Drain implements publish.Port; the device takes what it gets at once.
func (p *Port) Drain(context.Context) error { return nil }

// ReadTaking also keeps what it took until it is let go, if Slow was called.
func (p *Port) ReadTaking(b []byte, taking func()) (int, error) {
	q := p.FromDevice
	q.mu.Lock()
	for len(q.buf) == 0 && q.err == nil {
		q.changed.Wait()
	}
	taking()
	q.mu.Unlock()
	n, err := q.Read(b)
	p.mu.Lock()
	taken, letGo := p.taken, p.letGo
	p.mu.Unlock()
	if n > 0 && taken != nil {
		taken <- struct{}{}
		<-letGo
	}
	return n, err
}

// Slow makes reads keep what they took: taken tells of one, and it returns when
// letGo is closed.
func (p *Port) Slow() (taken <-chan struct{}, letGo chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken, p.letGo = make(chan struct{}, 10), make(chan struct{})
	return p.taken, p.letGo
}

// SetWriteDeadline implements publish.Port.
func (p *Port) SetWriteDeadline(t time.Time) error {
	p.ToDevice.setDeadline(&p.ToDevice.writeUntil, t)
	return nil
}

// SetLine implements publish.Port.
func (p *Port) SetLine(s line.Settings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = s
	p.lines = append(p.lines, s)
	return nil
}

// Line implements publish.Port.
func (p *Port) Line() line.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line
}

// Settings returns all line settings that were set.
func (p *Port) Settings() []line.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// Close implements publish.Port.
func (p *Port) Close() error {
	p.Unplug(net.ErrClosed)
	return nil
}

// Unplug makes reads and writes fail with err, for good.
func (p *Port) Unplug(err error) {
	p.FromDevice.Close(err, true)
	p.ToDevice.Close(err, true)
}
