package use

import (
	"slices"
	"sync"

	"github.com/serialspan/serialspan/bridge/session"
)

// Right is what an attachment may do to get its device. It outlives uses: who
// was kicked stays polite until it is let in again, and force counts once.
type Right struct {
	mu     sync.Mutex
	take   session.Take
	kicked bool
	asked  []session.ID // for its last sessions, the latest last
}

// NewRight returns the right to take as an application asked for.
func NewRight(take Take) *Right { return &Right{take: take.wire()} }

// ask notes that session id is asked for, and returns those before it. Of these
// the owner may not know the end: the way to it was cut when they were closed.
func (r *Right) ask(id session.ID) (before []session.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = slices.DeleteFunc(slices.Clone(r.asked), func(o session.ID) bool { return o == id })
	if len(before) > session.MaxReplaces {
		before = before[1:]
	}
	r.asked = append(slices.Clip(before), id)
	return before
}

func (r *Right) now() session.Take {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kicked {
		return session.TakePolite
	}
	return r.take
}

// Lose makes it polite, until it is granted again: another has taken the device.
func (r *Right) Lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicked = true
}

func (r *Right) granted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicked = false
	r.take = min(r.take, session.TakeNormal)
}

// IsKicked reports whether another took the device and it was not granted since.
func (r *Right) IsKicked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kicked
}

// Take says what an attachment may do to another consumer of its device.
type Take uint8

// The ways of taking. TakeNormal is the zero value.
const (
	TakeNormal Take = iota // as the device's busy rule says
	TakePolite             // waits until the device is free
	TakeForce              // takes it once, whatever the rule says
)

func (t Take) wire() session.Take {
	return [...]session.Take{TakeNormal: session.TakeNormal, TakePolite: session.TakePolite, TakeForce: session.TakeForce}[t]
}
