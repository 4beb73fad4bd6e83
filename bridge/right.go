package bridge

import (
	"slices"
	"sync"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/session"
)

// totals count over all sessions of a use or an attachment.
type totals struct {
	sent, received uint64
	resumed, gaps  int
	lost           uint64
}

func (t *totals) add(o totals) {
	t.sent += o.sent
	t.received += o.received
	t.resumed += o.resumed
	t.gaps += o.gaps
	t.lost += o.lost
}

// totalsOf are the counters of a link as its consumer sees them.
func totalsOf(s link.Stats) totals {
	return totals{sent: s.Sent, received: s.Received, resumed: s.Resumed, gaps: s.StaleGaps, lost: s.Stale}
}

// right is what an attachment may do to get its device. It outlives uses: who
// was kicked stays polite until it is let in again, and force counts once.
type right struct {
	mu     sync.Mutex
	take   session.Take
	kicked bool
	asked  []session.ID // for its last sessions, the latest last
}

// ask notes that session id is asked for, and returns those before it. Of these
// the owner may not know the end: the way to it was cut when they were closed.
func (r *right) ask(id session.ID) (before []session.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = slices.DeleteFunc(slices.Clone(r.asked), func(o session.ID) bool { return o == id })
	if len(before) > session.MaxReplaces {
		before = before[1:]
	}
	r.asked = append(before, id)
	return slices.Clone(before)
}

func (r *right) now() session.Take {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kicked {
		return session.TakePolite
	}
	return r.take
}

func (r *right) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicked = true
}

func (r *right) granted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicked = false
	r.take = min(r.take, session.TakeNormal)
}

func (r *right) isKicked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kicked
}

// TargetError is why a name leads to no device now. It unwraps to what
// AttacherConfig.Resolve returned.
type TargetError struct{ Err error }

// Error returns the text of the cause.
func (e *TargetError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *TargetError) Unwrap() error { return e.Err }
