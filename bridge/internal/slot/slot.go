package slot

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

// Slot is a device's place for its port, which may be lost and put in again
// while sessions write. Who writes while it is empty waits. Bytes that the
// driver took are gone from the session: should the port be lost, they may or
// may not have reached the device, and are counted. They are not written again.
//
// Of several writers each has its turn until what it wrote at once is written, so
// that a write of one is not cut by another's; then it is the turn of who has
// waited longest. So one that always has more to write gets no more than a share,
// and waits, like the device, by its session's window.
type Slot struct {
	mu      sync.Mutex
	changed chan struct{} // closed and made anew when port or turn change
	port    Port          // nil: empty
	lost    func()        // port does not take bytes any more
	turn    *Writer       // is in the middle of a write
	line    []*Writer     // wait for their turn, in the order of coming
	writing Port          // of the one whose turn it is, while it blocks

	written, settled uint64 // taken by port; of these, known to have left it
	unsure           uint64 // taken by ports before it, and not known to have left them
	left             uint64 // had left the driver at the tick before
	timer            *time.Timer
	ticking          bool
}

// Writer is one of those who write to a slot.
type Writer struct {
	slot  *Slot
	until expiry
}

// NewWriter returns another who writes. It has nothing to close.
func (s *Slot) NewWriter() *Writer { return &Writer{slot: s} }

// New returns an empty slot.
func New() *Slot { return &Slot{changed: make(chan struct{})} }

// wakeLocked wakes who waits. mu is held.
func (s *Slot) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Put makes port the one that is written to. lost is called when it fails; it
// must not block.
func (s *Slot) Put(port Port, lost func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port, s.lost = port, lost
	s.written, s.settled, s.left = 0, 0, 0
	s.wakeLocked()
}

// Take empties the slot, before its port is closed.
func (s *Slot) Take() {
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

// Doubt returns up to how many bytes the drivers of lost ports had that may
// not have reached the device, and forgets them.
func (s *Slot) Doubt() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.unsure
	s.unsure = 0
	return n
}

// Current returns the port, nil if there is none.
func (s *Slot) Current() Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// IsDead reports whether there is a port and its driver answers no more.
func (s *Slot) IsDead() bool {
	q, ok := s.Current().(queuer)
	if !ok {
		return false
	}
	_, err := q.Queued()
	return err != nil
}

// Leave ends the turn of w, and its waiting for one.
func (w *Writer) Leave() {
	s := w.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.line, w)
	if at >= 0 {
		s.line = slices.Delete(s.line, at, at+1)
	}
	if s.turn == w {
		s.turn = nil
	} else if at < 0 {
		return
	}
	s.wakeLocked()
}

// Yield ends the turn of w if another waits for it.
func (w *Writer) Yield() {
	s := w.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == w && len(s.line) > 0 {
		s.turn = nil
		s.wakeLocked()
	}
}

// isTurn reports whether w may write now. mu is held.
func (s *Slot) isTurn(w *Writer) bool {
	switch {
	case s.port == nil || s.writing != nil:
		return false
	case s.turn != nil:
		return s.turn == w
	}
	return len(s.line) == 0 || s.line[0] == w
}

// TryWrite hands over what the driver takes at once, nothing if it is not the
// turn of w.
func (w *Writer) TryWrite(p []byte) int {
	s := w.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isTurn(w) {
		return 0
	}
	n, err := s.port.TryWrite(p)
	s.countLocked(n)
	if n > 0 && n < len(p) {
		s.turn = w
	}
	if err != nil {
		s.lost()
	}
	return n
}

// Write hands over all of p. It waits for a port, its turn and the driver,
// until the wait is over; then it says os.ErrDeadlineExceeded.
func (w *Writer) Write(p []byte) (int, error) {
	s, over := w.slot, w.until.passed()
	for done := 0; ; {
		port, changed := s.begin(w)
		if isClosed(over) {
			s.finish(w, port, 0, over, nil)
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
		s.finish(w, port, n, over, err)
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

// begin returns the port if it is the turn of w, else nil and what is closed
// when that may have changed; then w waits in line until Leave.
func (s *Slot) begin(w *Writer) (Port, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isTurn(w) {
		if s.turn != w && !slices.Contains(s.line, w) {
			s.line = append(s.line, w)
		}
		return nil, s.changed
	}
	if len(s.line) > 0 && s.line[0] == w {
		s.line = slices.Delete(s.line, 0, 1)
	}
	s.turn, s.writing = w, s.port
	return s.port, s.changed
}

// finish ends a write to port that took n bytes.
func (s *Slot) finish(w *Writer, port Port, n int, over <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if port == nil {
		return
	}
	s.writing = nil
	if s.turn != w {
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

// SetDeadline makes a write of w end at t; the zero time: never.
func (w *Writer) SetDeadline(t time.Time) {
	w.until.set(t)
	s := w.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == w && s.writing != nil {
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
func (s *Slot) countLocked(n int) {
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
func (s *Slot) tick() {
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
func (s *Slot) settleLocked() bool {
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
