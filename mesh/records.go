package mesh

import (
	"net/netip"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/probe"
	"github.com/serialspan/serialspan/mesh/kubespan"
	"github.com/serialspan/serialspan/mesh/peering"
	"github.com/serialspan/serialspan/mesh/roster"
)

// maxSeen bounds the addresses of ours that others told us of.
const maxSeen = 2

// proof says what is known about a record besides its signature.
type proof int

const (
	hearsay   proof = iota // passed on by others
	possessed              // the member has shown that it holds the WireGuard key in it
)

// merge takes a verified record of a member, or of ourselves as a peer holds
// it; mu is held.
func (m *Mesh) merge(s roster.Signed, p proof) {
	id := s.ID()
	if id != m.self && !m.admits(id) {
		m.log.Debug("record refused, the node is not admitted", "node", id.Short())
		return
	}
	if !m.ownsKey(s, p) {
		m.log.Debug("record refused, its WireGuard key is another member's", "node", id.Short())
		return
	}
	old, had := m.roster.Get(id)
	switch m.roster.Merge(s) {
	case roster.Own:
		m.mergeOwn(s)
	case roster.Full:
		if !m.forgetOne() {
			m.log.Warn("too many members known, one left out", "node", id.Short(), "limit", roster.MaxRecords)
			return
		}
		m.roster.Merge(s)
		m.adopt(id, old, had, s.Record())
	case roster.Added, roster.Newer:
		m.adopt(id, old, had, s.Record())
	}
}

// ownsKey reports whether a record may carry its WireGuard key: a member must
// not take that of another by claiming it. Whoever has shown that it holds the
// key is believed, and who claimed it before is forgotten. mu is held.
func (m *Mesh) ownsKey(s roster.Signed, p proof) bool {
	id, key := s.ID(), s.Record().WireGuard
	if id == m.self {
		return true
	}
	if key == m.private.Public() {
		return false
	}
	holder, taken := m.senders[probe.SenderOf(key)]
	if !taken || holder == id {
		return true
	}
	if p == possessed {
		m.forget(holder)
	}
	return p == possessed
}

// forget removes all that is known of a member; mu is held.
func (m *Mesh) forget(id identity.NodeID) {
	if old, ok := m.roster.Get(id); ok {
		m.dropSender(id, old.Record().WireGuard)
	}
	m.roster.Remove(id)
	m.tunnel.RemovePeer(id)
	m.tunnel.Unknow(id)
	m.peering.Remove(id)
	delete(m.pairs, id)
	delete(m.added, id)
	delete(m.skews, id)
	delete(m.gone, id)
	m.doors.forget(id)
	m.membership.Add(1)
	if !m.alive[id] {
		delete(m.alive, id)
	}
	m.later(func() { m.gossip.Forget(id) })
}

// forgetGone forgets the members that have been gone for too long.
func (m *Mesh) forgetGone() {
	m.do(func() {
		for _, s := range m.roster.All() {
			id := s.ID()
			since, noted := m.gone[id]
			switch {
			case id == m.self:
			case m.alive[id]:
				delete(m.gone, id)
			case !noted:
				m.gone[id] = m.now()
			case m.now()-since >= m.cfg.ForgetAfter && m.sessions[id] == 0:
				m.log.Info("member forgotten, it was gone for too long", "node", s.Record().Name, "id", id.Short())
				m.forget(id)
			}
		}
	})
}

// forgetOne makes room for a member by forgetting one that is not alive; mu is
// held.
func (m *Mesh) forgetOne() bool {
	for _, s := range m.roster.All() {
		if id := s.ID(); id != m.self && !m.alive[id] && m.sessions[id] == 0 {
			m.forget(id)
			return true
		}
	}
	return false
}

func (m *Mesh) dropSender(id identity.NodeID, key identity.WireGuardKey) {
	if sender := probe.SenderOf(key); m.senders[sender] == id {
		delete(m.senders, sender)
	}
}

// adopt makes the parts follow a record that is new to us; mu is held.
func (m *Mesh) adopt(id identity.NodeID, old roster.Signed, had bool, now roster.Record) {
	newKey := true
	if had {
		before := old.Record()
		newKey = before.WireGuard != now.WireGuard
		if newKey {
			m.dropSender(id, before.WireGuard)
			delete(m.pairs, id)
			m.tunnel.Unknow(id)
		}
	}
	m.senders[probe.SenderOf(now.WireGuard)] = id
	if delete(m.doors.offers, id); now.Relay {
		m.doors.offers[id] = true
	}
	if m.tunnel.HasPeer(id) {
		if newKey {
			// The member has restarted: its paths, and our connection, are
			// those of a process that is gone.
			if err := m.tunnel.SetPeer(id, now.WireGuard); err != nil {
				m.log.Warn("member's new key cannot be used", "node", id.Short(), "err", err)
			}
			m.apply(m.peering.Reset(m.now(), id))
			m.later(func() { m.quic.Renew(id) })
		}
		m.setCandidates(id, now)
		m.relaysChanged = true
		m.signals.look()
	}
	m.membership.Add(1)
	m.log.Debug("record taken", "node", id.Short(), "epoch", now.Epoch, "sequence", now.Sequence)
	m.later(m.watch.changed)
}

// mergeOwn judges a record of ours that another process made; mu is held.
func (m *Mesh) mergeOwn(held roster.Signed) {
	verdict, epoch := m.own.Decide(m.roster.Self(), held)
	switch verdict {
	case roster.JumpTo:
		m.log.Warn("state directory is older than the mesh remembers, going on in a later epoch",
			"epoch", epoch, "was", m.record.Epoch)
		m.later(func() { m.cfg.Store.SetEpoch(epoch) })
		m.record.Epoch, m.record.Sequence = epoch, 0
		m.publish()
		m.joining.again()
	case roster.TwoMachines:
		if !m.twin {
			m.log.Error("another machine runs with this node's identity; remove the copied state directory there or here", "node", m.self.Short())
		}
		m.twin = true
		m.later(m.watch.changed)
	}
}

// publish signs our record with the next sequence and spreads it; mu is held.
func (m *Mesh) publish() {
	if m.twin {
		return // the other machine's records and ours would outdo each other for ever
	}
	m.record.Sequence++
	if err := m.sign(); err != nil {
		m.log.Error("own record cannot be signed", "err", err)
		return
	}
	m.joining.metaChanged()
	m.later(m.watch.changed)
}

// rekey replaces the burnt WireGuard key of this start: the next record carries
// the new one, every peer is told by a join handshake, and connections are made
// again, on which the sessions resume.
func (m *Mesh) rekey() {
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		m.log.Error("no new WireGuard key", "err", err)
		return
	}
	m.do(func() {
		m.private = private
		m.record.WireGuard = private.Public()
		m.publish()
		m.join.Rekey(private)
		clear(m.pairs)
		if err := m.tunnel.Rekey(private); err != nil {
			m.log.Error("new WireGuard key not taken", "err", err)
			return
		}
		told := 0
		for _, id := range m.tunnel.Peers() {
			for _, r := range m.peering.Routes(id) {
				if !r.IsRelay() && told < joinMost { // gossip tells the others
					told++
					m.beginJoin(r.Remote)
				}
			}
			m.later(func() { m.quic.Renew(id) })
		}
	})
	m.log.Info("wall clock went back, handshakes go on with a new WireGuard key", "sequence", m.Status().Sequence)
}

// seenEvery is how often an address at which others see us may change our
// record: behind some NATs every member sees another.
const seenEvery = time.Minute

// seenAs notes the address at which another member sees us; mu is held.
func (m *Mesh) seenAs(addr netip.AddrPort) {
	// A link-local address means nothing without our link, and that in a
	// KubeSpan stands in the record by itself.
	if !addr.IsValid() || addr.Addr().IsLinkLocalUnicast() || kubespan.IsULA(addr.Addr()) || slices.Contains(m.record.Endpoints, addr) {
		return
	}
	if m.seenAt > 0 && m.now()-m.seenAt < seenEvery {
		return
	}
	m.seenAt = m.now()
	m.seen = append([]netip.AddrPort{addr}, m.seen...)
	m.seen = m.seen[:min(len(m.seen), maxSeen)]
	m.relaysChanged = true // who is in our KubeSpan may be beyond that router
	m.lookAtAddresses()
}

// lookAtAddresses publishes our addresses if they have changed; mu is held.
func (m *Mesh) lookAtAddresses() {
	own, err := m.cfg.Addresses()
	if err != nil {
		m.log.Warn("own addresses unknown", "err", err)
	}
	m.doors.addrs = own
	all := endpoints(m.cfg.Socket.LocalAddr(), m.cfg.Advertise, own, m.seen)
	if slices.Equal(all, m.record.Endpoints) {
		return
	}
	m.record.Endpoints = all
	m.publish()
}

// reached notes a member that completed a join handshake with us; mu is held.
func (m *Mesh) reached(id identity.NodeID, addr netip.AddrPort, local netip.Addr) {
	if !m.usePeer(id) {
		return
	}
	route := peering.Route{Remote: addr, Local: local}
	m.classify(id, &route)
	m.apply(m.peering.Reached(m.now(), id, route))
}
