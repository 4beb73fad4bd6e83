package mesh

import (
	mathrand "math/rand/v2"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/admission"
)

// tellSoon plans a hint.
func (m *Mesh) tellSoon() {
	b := &m.belonging
	b.mu.Lock()
	if b.hintAt == 0 {
		b.hintAt = m.now() + hintSpread/3 + mathrand.N(hintSpread*2/3)
	}
	b.mu.Unlock()
	poke(b.wake)
}

// takeBroadcast takes a broadcast of another member.
func (m *Mesh) takeBroadcast(message []byte) {
	if len(message) == 0 || message[0] != admission.RumourMark {
		m.cfg.OnBroadcast(message)
		return
	}
	rumour, err := admission.ParseRumour(m.cfg.Secret.Cluster, message)
	switch {
	case err != nil:
		m.log.Debug("rumour not valid", "err", err)
	case rumour.Removal != nil:
		b := &m.belonging
		b.mu.Lock()
		if len(b.heard) < maxHeard { // else a comparison brings it
			b.heard = append(b.heard, *rumour.Removal)
		}
		b.mu.Unlock()
		poke(b.wake)
	case rumour.Hint.From != m.self:
		m.takeHint(*rumour.Hint)
	}
}

// maxHeard bounds the removals that wait to be looked at.
const maxHeard = 64

// takeHeard takes in the removals that rumours told.
func (m *Mesh) takeHeard() {
	b := &m.belonging
	b.mu.Lock()
	heard := b.heard
	b.heard = nil
	b.mu.Unlock()
	if m.addRemovals(heard) {
		m.tellSoon()
	}
}

// takeHint compares soon with a member that holds something else; from one that
// holds the same it learns that this was told already.
func (m *Mesh) takeHint(h admission.Hint) {
	m.noteNumber(h.From, h.Number)
	b := &m.belonging
	b.mu.Lock()
	if b.digest() == h.Digest {
		b.hintAt = 0
	} else if len(b.compare) < maxNoted {
		if _, planned := b.compare[h.From]; !planned {
			b.compare[h.From] = m.now() + mathrand.N(reactSpread)
		}
	}
	b.mu.Unlock()
	poke(b.wake)
}

// dueCompares takes the members to compare with now.
func (m *Mesh) dueCompares() (due []identity.NodeID) {
	b := &m.belonging
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, at := range b.compare {
		if m.now() >= at {
			due = append(due, id)
			delete(b.compare, id)
		}
	}
	return due
}

// tellHint tells a hint if one is due, and returns the time until something is.
func (m *Mesh) tellHint() time.Duration {
	b := &m.belonging
	now := m.now()
	b.mu.Lock()
	tell := b.hintAt != 0 && now >= b.hintAt
	if tell {
		b.hintAt = 0
	}
	next := now + compareEvery
	if b.hintAt != 0 {
		next = b.hintAt
	}
	for _, at := range b.compare {
		next = min(next, at)
	}
	for _, p := range b.leaving {
		next = min(next, p.at)
	}
	b.mu.Unlock()
	if tell {
		m.Broadcast("admission hint "+m.self.String(), m.hint().Encode())
	}
	return max(next-now, time.Millisecond)
}
