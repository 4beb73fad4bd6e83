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

// passOnMost bounds the members that one which was given a new secret compares
// with by itself: those that do not have it cannot open what is told by gossip.
const passOnMost = 8

// passOnSoon plans to compare with some members that are alive and not known to
// use the new secret.
func (m *Mesh) passOnSoon() {
	alive := m.aliveOthers()
	mathrand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	b := &m.belonging
	b.mu.Lock()
	planned := 0
	for _, id := range alive {
		if _, fresh := b.seen[id]; !fresh && planned < passOnMost {
			planned++
			b.compare[id] = m.now() + reactSpread/4 + mathrand.N(reactSpread)
		}
	}
	b.mu.Unlock()
	poke(b.wake)
}

// outage is how long a member must have been out of reach to be compared with
// when it is back: it, or we, may have missed a rotation, and then gossip passes
// one way only, so that each half of a healed partition takes the other for
// alive but learns nothing.
const outage = 10 * time.Second

// backAfter plans to compare with a member that is in reach again.
func (m *Mesh) backAfter(id identity.NodeID, down time.Duration) {
	if down < outage {
		return
	}
	b := &m.belonging
	b.mu.Lock()
	if _, planned := b.compare[id]; !planned {
		b.compare[id] = m.now() + reactSpread/4 + mathrand.N(reactSpread)
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

// knowsBroadcast is asked before takeBroadcast. Rumours of our own are few.
func (m *Mesh) knowsBroadcast(message []byte) bool {
	return len(message) > 0 && message[0] != admission.RumourMark && m.cfg.Known(message)
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
