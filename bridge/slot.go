package bridge

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// settleTick is how often the driver is asked what it still has, while it has
// something. What it did not have one tick ago has left the chip behind it too:
// 384 bytes, the largest of the common ones (FT232R), take 250 ms at 15,360
// bit/s.
const settleTick = 250 * time.Millisecond

// queuer is a Port that knows how many bytes its driver has and has not sent.
type queuer interface {
	Queued() (int, error)
}

// slot is a device's place for its port, which may be lost and put in again
// while sessions write. Who writes while it is empty waits. Bytes that the
// driver took are gone from the session: should the port be lost, they may or
// may not have reached the device, and are counted. They are not written again.
//
// Of several writers each has its turn until what it wrote at once is written, so
// that a write of one is not cut by another's; then it is the turn of who has
// waited longest. So one that always has more to write gets no more than a share,
// and waits, like the device, by its session's window.
type slot struct {
	mu      sync.Mutex
	changed chan struct{} // closed and made anew when port or turn change
	port    Port          // nil: empty
	lost    func()        // port does not take bytes any more
	turn    *lease        // is in the middle of a write
	line    []*lease      // wait for their turn, in the order of coming
	writing Port          // of the one whose turn it is, while it blocks

	written, settled uint64 // taken by port; of these, known to have left it
	unsure           uint64 // taken by ports before it, and not known to have left them
	left             uint64 // had left the driver at the tick before
	timer            *time.Timer
	ticking          bool
}

func newSlot() *slot { return &slot{changed: make(chan struct{})} }

// wakeLocked wakes who waits. mu is held.
func (s *slot) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// put makes port the one that is written to. lost is called when it fails; it
// must not block.
func (s *slot) put(port Port, lost func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port, s.lost = port, lost
	s.written, s.settled, s.left = 0, 0, 0
	s.wakeLocked()
}

// take empties the slot, before its port is closed.
func (s *slot) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port == nil {
		return
	}
	s.settleLocked()
	s.unsure += s.written - s.settled
	s.port = nil
	if s.timer != nil {
		s.timer.Stop()
		s.ticking = false
	}
	s.wakeLocked()
}

// doubt returns up to how many bytes the drivers of lost ports had that may
// not have reached the device, and forgets them.
func (s *slot) doubt() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.unsure
	s.unsure = 0
	return n
}

// current returns the port, nil if there is none.
func (s *slot) current() Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// isDead reports whether there is a port and its driver answers no more.
func (s *slot) isDead() bool {
	q, ok := s.current().(queuer)
	if !ok {
		return false
	}
	_, err := q.Queued()
	return err != nil
}

// leave ends the turn of l, and its waiting for one.
func (s *slot) leave(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.line, l)
	if at >= 0 {
		s.line = slices.Delete(s.line, at, at+1)
	}
	if s.turn == l {
		s.turn = nil
	} else if at < 0 {
		return
	}
	s.wakeLocked()
}

// yield ends the turn of l if another waits for it.
func (s *slot) yield(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == l && len(s.line) > 0 {
		s.turn = nil
		s.wakeLocked()
	}
}

// isTurn reports whether l may write now. mu is held.
func (s *slot) isTurn(l *lease) bool {
	switch {
	case s.port == nil || s.writing != nil:
		return false
	case s.turn != nil:
		return s.turn == l
	}
	return len(s.line) == 0 || s.line[0] == l
}

// tryWrite hands over what the driver takes at once, nothing if it is not the
// turn of l.
func (s *slot) tryWrite(l *lease, p []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isTurn(l) {
		return 0
	}
	n, err := s.port.TryWrite(p)
	s.countLocked(n)
	if n > 0 && n < len(p) {
		s.turn = l
	}
	if err != nil {
		s.lost()
	}
	return n
}

// write hands over all of p. It waits for a port, its turn and the driver,
// until the wait is over; then it says os.ErrDeadlineExceeded.
func (s *slot) write(l *lease, p []byte, until *expiry) (int, error) {
	over := until.passed()
	for done := 0; ; {
		port, changed := s.begin(l)
		if isClosed(over) {
			s.finish(l, port, 0, over, nil)
			return done, os.ErrDeadlineExceeded
		}
		if port == nil {
			select {
			case <-changed:
			case <-over:
			}
			continue
		}
		n, err := port.Write(p[done:])
		done += n
		s.finish(l, port, n, over, err)
		if done == len(p) {
			return done, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return done, os.ErrDeadlineExceeded
		}
		if err == nil {
			continue
		}
		select { // the port will be taken out
		case <-changed:
		case <-over:
		}
	}
}

// begin returns the port if it is the turn of l, else nil and what is closed
// when that may have changed; then l waits in line until leave.
func (s *slot) begin(l *lease) (Port, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isTurn(l) {
		if s.turn != l && !slices.Contains(s.line, l) {
			s.line = append(s.line, l)
		}
		return nil, s.changed
	}
	if len(s.line) > 0 && s.line[0] == l {
		s.line = slices.Delete(s.line, 0, 1)
	}
	s.turn, s.writing = l, s.port
	return s.port, s.changed
}

// finish ends a write to port that took n bytes.
func (s *slot) finish(l *lease, port Port, n int, over <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if port == nil {
		return
	}
	s.writing = nil
	if s.turn != l {
		s.wakeLocked() // it left meanwhile
	}
	late := isClosed(over) || errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		_ = port.SetWriteDeadline(time.Time{})
	}
	if s.port != port {
		s.unsure += uint64(max(n, 0))
		return
	}
	s.countLocked(n)
	if err != nil && !late {
		s.lost()
	}
}

// setDeadline makes a write of l end at t; the zero time: never.
func (s *slot) setDeadline(l *lease, until *expiry, t time.Time) {
	until.set(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == l && s.writing != nil {
		_ = s.writing.SetWriteDeadline(t)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// countLocked counts n bytes that the driver took. mu is held.
func (s *slot) countLocked(n int) {
	if n <= 0 {
		return
	}
	s.written += uint64(n)
	if _, ok := s.port.(queuer); !ok {
		s.settled = s.written // it has no driver to lose anything
		return
	}
	if s.ticking {
		return
	}
	s.ticking = true
	if s.timer == nil {
		s.timer = time.AfterFunc(settleTick, s.tick)
	} else {
		s.timer.Reset(settleTick)
	}
}

// tick runs on the timer's own goroutine.
func (s *slot) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticking = false
	if s.port == nil || !s.settleLocked() || s.settled == s.written {
		return
	}
	s.ticking = true
	s.timer.Reset(settleTick)
}

// settleLocked asks the driver what it has, and reports whether it answered.
// mu is held.
func (s *slot) settleLocked() bool {
	q, ok := s.port.(queuer)
	if !ok {
		return false
	}
	queued, err := q.Queued()
	if err != nil {
		return false
	}
	s.settled = max(s.settled, s.left)
	if uint64(queued) <= s.written {
		s.left = max(s.left, s.written-uint64(queued))
	}
	return true
}

// expiry is the write deadline of one writer. The zero value never passes.
type expiry struct {
	mu    sync.Mutex
	timer *time.Timer
	over  chan struct{} // closed when it passes
}

// passed returns a channel that is closed when the deadline passes.
func (e *expiry) passed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over == nil {
		e.over = make(chan struct{})
	}
	return e.over
}

// set moves the deadline; a write that waits follows it. The zero time: never.
func (e *expiry) set(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.over == nil || isClosed(e.over) {
		e.over = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	over := e.over
	if wait := time.Until(t); wait <= 0 {
		close(over)
	} else {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.timer == timer {
				close(over)
			}
		})
		e.timer = timer
	}
}
