package mesh

import (
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/admission"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/removal"
)

// partTime is how long a removed member keeps its connections, so that the
// ends of its sessions reach it and say why; then as long again until nothing
// of it is known.
const partTime = 250 * time.Millisecond

// ErrRemoveSelf means that a node was to remove itself.
var ErrRemoveSelf = errors.New("a node cannot remove itself; do it on another one")

// Removed is a node that was removed.
type Removed struct {
	ID   identity.NodeID
	Name string // as its remover knew it; may be empty
	By   identity.NodeID
	// Honoured: it is out, as seen from here. Else By is not among
	// Config.Admins, and the statement is only passed on.
	Honoured bool
}

// Remove states, for ever, that a node is no member any more: it is out here at
// once, and wherever this node is among Config.Admins. name is for people.
// Removing a node again changes nothing. The error says what was not done; a
// statement that could not be written down is in Keys' Problems.
func (m *Mesh) Remove(id identity.NodeID, name string) (Removed, error) {
	if id == m.self {
		return Removed{}, fmt.Errorf("remove node %s: %w", id.Short(), ErrRemoveSelf)
	}
	own, _ := m.cfg.Store.Identity()
	s, err := removal.Sign(own, m.cfg.Secret.Cluster, id, name)
	if err != nil {
		return Removed{}, fmt.Errorf("remove node %s: %w", id.Short(), err)
	}
	m.addRemovals([]removal.Statement{s})
	if !m.isRemoved(id) {
		return Removed{}, fmt.Errorf("remove node %s: %w", id.Short(), removal.ErrFull)
	}
	m.Broadcast("removal of "+id.String(), admission.EncodeRemoval(s))
	m.tellSoon()
	return Removed{ID: id, Name: s.Name(), By: m.self, Honoured: true}, nil
}

// RemovedNodes returns all removals known, by NodeID.
func (m *Mesh) RemovedNodes() []Removed {
	var all []Removed
	for _, s := range m.removals() {
		all = append(all, Removed{ID: s.Node(), Name: s.Name(), By: s.Issuer(), Honoured: m.counts(s.Issuer())})
	}
	return all
}

// IsRemoved reports whether a node was removed, as seen from here.
func (m *Mesh) IsRemoved(id identity.NodeID) bool { return m.isRemoved(id) }

// Reconsider makes the mesh look again whose removals count: call it when
// Config.Admins returns others than before.
func (m *Mesh) Reconsider() { poke(m.belonging.wake) }

// addRemovals takes in statements and writes them down. It reports whether any
// was new.
func (m *Mesh) addRemovals(statements []removal.Statement) (changed bool) {
	if len(statements) == 0 {
		return false
	}
	b := &m.belonging
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	for _, s := range statements {
		added, err := b.removals.Add(s, m.counts)
		if err != nil {
			m.log.Warn("removal not kept", "node", s.Node().Short(), "err", err)
		}
		changed = changed || added
	}
	text := string(b.removals.Marshal())
	b.mu.Unlock()
	if !changed {
		return false
	}
	problem := ""
	if err := m.cfg.Store.write(removalsFile, text); err != nil {
		m.log.Warn("list of removed nodes not kept", "err", err)
		problem = fmt.Sprintf("state directory: list of removed nodes is not kept: %v; free or repair the disk, or a removed node may be let in after a restart", err)
	}
	b.problem(removalsNotKept, problem)
	m.watch.changed()
	poke(b.wake)
	return true
}

// removals returns all statements.
func (m *Mesh) removals() []removal.Statement {
	m.belonging.mu.Lock()
	defer m.belonging.mu.Unlock()
	return m.belonging.removals.All()
}

// parting is where the parting from a removed member stands.
type parting struct {
	at     time.Duration // of the next step
	closed bool          // its connections are closed
}

// enforce parts with members that were removed, in steps: their sessions end
// with a reason, then their connections, then all that is known of them.
func (m *Mesh) enforce() {
	b := &m.belonging
	now := m.now()
	for _, s := range m.removals() {
		id := s.Node()
		if _, known := m.roster.Get(id); known && id != m.self && m.isRemoved(id) {
			b.mu.Lock()
			_, leaving := b.leaving[id]
			if !leaving {
				b.leaving[id] = parting{at: now + partTime}
			}
			b.mu.Unlock()
			if !leaving {
				m.log.Info("node was removed from the cluster", "node", id.Short())
				m.gossip.Expel(id)
				m.cfg.OnRemoved(id)
			}
		}
	}
	var closing, forgetting []identity.NodeID
	b.mu.Lock()
	for id, p := range b.leaving {
		switch {
		case now < p.at:
		case p.closed:
			forgetting = append(forgetting, id)
			delete(b.leaving, id)
		default:
			closing = append(closing, id)
			b.leaving[id] = parting{at: now + partTime, closed: true}
		}
	}
	b.mu.Unlock()
	for _, id := range closing {
		m.quic.Forget(id)
	}
	for _, id := range forgetting {
		m.quic.Forget(id)
		m.do(func() {
			m.forget(id)
			m.later(m.watch.changed)
		})
		m.changeKeys(func(ring *keyring.Ring) bool {
			known := ring.Knows(id)
			ring.Forget(id)
			return known
		})
	}
}
