package remote

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

const (
	// rawBuffer is how much a raw stream keeps for its reader, beside the
	// session's window.
	rawBuffer = 32768
	// rawLinger is how long Close waits for what was written to be
	// delivered. A person waits for it.
	rawLinger = 2 * time.Second
)

// raw is a device as a stream of bytes. What the session delivers, through
// rawSink, waits in buf for Read.
type raw struct {
	use *use.Use

	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte // at most rawBuffer
	taken    uint64 // bytes that have left buf, read or discarded
	marks    []mark // gaps among buf, for next
	discards int
	pressed  bool // a write deadline has passed
	over     bool
	why      error
	closeOne sync.Once
}

func newRaw() *raw {
	r := &raw{buf: make([]byte, 0, 512)}
	r.changed = sync.NewCond(&r.mu)
	return r
}

// Read implements io.Reader. It blocks until there are bytes, the device is
// lost for good, or Close.
func (r *raw) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		piece, err := r.next(p)
		if err != nil || piece.N > 0 {
			return piece.N, err
		}
	}
}

// mark is a gap before the byte with this number.
type mark struct {
	at  uint64
	gap Gap
}

// next is Read that stops at gaps and tells them.
func (r *raw) next(p []byte) (Piece, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) == 0 && len(r.marks) == 0 && !r.over {
		r.changed.Wait()
	}
	until := len(r.buf)
	if len(r.marks) > 0 {
		if r.marks[0].at <= r.taken {
			gap := r.marks[0].gap
			r.marks = r.marks[1:]
			return Piece{End: r.taken, Gap: gap}, nil
		}
		until = int(r.marks[0].at - r.taken)
	}
	if until == 0 {
		return Piece{End: r.taken}, r.why
	}
	n := copy(p, r.buf[:until])
	r.buf = r.buf[:copy(r.buf, r.buf[n:])]
	r.taken += uint64(n)
	r.changed.Broadcast()
	return Piece{N: n, End: r.taken}, nil
}

// mark places a gap after what came so far.
func (r *raw) mark(gap Gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark{r.taken + uint64(len(r.buf)), gap})
	r.changed.Broadcast()
}

// discard drops what was not read and returns how many bytes have left so far.
// Gaps stay to be told.
func (r *raw) discard() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken += uint64(len(r.buf))
	r.buf = r.buf[:0]
	r.discards++
	r.changed.Broadcast()
	return r.taken
}

// Write implements io.Writer. It blocks while the device does not take the
// bytes.
func (r *raw) Write(p []byte) (int, error) {
	if err := r.use.Send(p); err != nil {
		return 0, r.reason()
	}
	return len(p), nil
}

// Status tells how the use is; ID, Where and State's Age are not set.
func (r *raw) Status() use.Status { return r.use.Status() }

// Close ends the use. It is safe to call twice.
func (r *raw) Close() error {
	r.closeOne.Do(func() { r.use.Finish(rawLinger) })
	return nil
}

// ended is told by the use.
func (r *raw) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over, r.why = true, err
	r.changed.Broadcast()
}

func (r *raw) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		return io.ErrClosedPipe
	}
	return r.why
}

// ending returns why the stream is over, nil while it is not.
func (r *raw) ending() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		return nil
	}
	return r.why
}

// rawSink is raw as the session writes to it.
type rawSink struct{ *raw }

func (s rawSink) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(p), nil
}

// put takes what fits. mu is held.
func (s rawSink) put(p []byte) int {
	n := min(len(p), rawBuffer-len(s.buf))
	s.buf = append(s.buf, p[:n]...)
	if n > 0 {
		s.changed.Broadcast()
	}
	return n
}

func (s rawSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, discards := 0, s.discards
	for {
		if s.discards != discards {
			return len(p), nil // all of it came before
		}
		done += s.put(p[done:])
		switch {
		case done == len(p):
			return done, nil
		case s.pressed:
			return done, os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
}

// SetWriteDeadline knows only "at once" (any time) and "never" (zero): what
// an outlet needs.
func (s rawSink) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pressed = !t.IsZero()
	s.changed.Broadcast()
	return nil
}

func (rawSink) Apply(context.Context, session.Control) {}

func (rawSink) Purge(uint64) {}
