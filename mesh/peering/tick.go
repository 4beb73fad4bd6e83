package peering

import (
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// lookEvery is how often Tick looks at all members: data that was sent since
// makes a look due that was not.
const lookEvery = 5 * time.Second

// Tick does what is due at now and returns when to call it next at the latest.
// activity is asked about the members for which something is due, or about
// which something was said since the last call; now and then about all.
func (m *Machine) Tick(now time.Duration, activity Activity) (effects []Effect, next time.Duration) {
	all := now >= m.lookAt
	if all {
		m.lookAt = now + lookEvery
	}
	visit := func(p *peer) {
		some, due := m.look(now, p, activity)
		effects, p.due = append(effects, some...), due
	}
	if all || now >= m.next {
		next = now + lastRound
		for id, p := range m.peers {
			if _, touched := m.touched[id]; all || touched || now >= p.due {
				visit(p)
			}
			next = min(next, p.due)
		}
	} else {
		next = m.next
		for id := range m.touched {
			if p := m.peers[id]; p != nil {
				visit(p)
				next = min(next, p.due)
			}
		}
	}
	clear(m.touched)
	m.next = next
	return effects, max(next, now+time.Millisecond)
}

// look does what is due for a member and returns when to look at it again.
func (m *Machine) look(now time.Duration, p *peer, activity Activity) (effects []Effect, next time.Duration) {
	if p.path.IsZero() {
		effects, next = m.search(now, p), never
		if p.sought(now) {
			next = p.nextRound
		}
		if now >= p.replyUntil {
			return append(effects, p.endReplies()...), next
		}
		return effects, min(next, p.replyUntil)
	}
	sent, heard := activity(p.id)
	effects = m.watch(now, p, sent, max(heard, p.answered))
	effects = append(effects, m.upgrade(now, p)...)
	return effects, p.nextLook(sent, max(heard, p.answered))
}

// touch returns a member about which something is said.
func (m *Machine) touch(id identity.NodeID) (p *peer, ok bool) {
	p, ok = m.peers[id]
	if ok {
		m.touched[id] = struct{}{}
	}
	return p, ok
}
