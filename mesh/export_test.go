package mesh

import (
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

// Hear takes a record that somebody passed on.
func (m *Mesh) Hear(s roster.Signed) { m.do(func() { m.merge(s, hearsay) }) }

// RecordOf returns the newest record of a member.
func (m *Mesh) RecordOf(id identity.NodeID) roster.Signed {
	s, _ := m.roster.Get(id)
	return s
}

// RemoveIdlePeers removes the WireGuard peers without a session at once.
func (m *Mesh) RemoveIdlePeers() { m.removeIdle(0) }

// Peers returns how many WireGuard peers there are.
func (m *Mesh) Peers() int { return len(m.tunnel.Peers()) }
