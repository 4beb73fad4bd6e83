package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
	"github.com/serialspan/serialspan/mesh/kubespan"
	"github.com/serialspan/serialspan/mesh/peering"
	"github.com/serialspan/serialspan/mesh/roster"
)

// bypassMark is Talos's mark of packets that stay out of its KubeSpan (DESIGN
// law 8). Talos forces what goes to the node addresses of its peers into the
// KubeSpan, dead or alive, and so would carry our tunnel into a dead one. The
// mark changes nothing for addresses of the KubeSpan itself: the route to them
// stands in the main table.
const bypassMark = 0x20

// bareProbe is the size of a probe in the KubeSpan: that of a QUIC packet as bare
// datagram. Where a KubeSpan's MTU is set larger than what its underlay carries,
// small packets arrive and large ones vanish; such a KubeSpan must not answer.
const bareProbe = 2 + quicnet.PacketSize

// span is the KubeSpan of this host. The zero value: there is none.
type span struct {
	state atomic.Pointer[kubespan.State]

	// Guarded by Mesh.mu.
	marked  bool  // our datagrams carry bypassMark
	markErr error // why they do not
}

// now returns what was last taken of the KubeSpan.
func (s *span) now() kubespan.State {
	if state := s.state.Load(); state != nil {
		return *state
	}
	return kubespan.State{}
}

// forged reports whether a datagram has a source in our KubeSpan and did not
// come from there: by its interface, to our address in it.
func (s *span) forged(from, local netip.Addr, link int) bool {
	state := s.state.Load()
	return state != nil && state.Present && state.Prefix.Contains(from) && (link != state.Link || local != state.Address)
}

// classify takes a route for one through our KubeSpan only if the member says
// that it is there as well: it takes bare datagrams only then. mu is held.
func (m *Mesh) classify(id identity.NodeID, r *peering.Route) {
	signed, ok := m.roster.Get(id)
	r.KubeSpan = ok && r.Remote.IsValid() && signed.Record().KubeSpan == r.Remote.Addr() && m.sharesKubeSpan(r.Remote.Addr())
}

func (m *Mesh) sharesKubeSpan(a netip.Addr) bool {
	state := m.span.now()
	return state.Present && a != state.Address && state.Prefix.Contains(a)
}

// proves takes an answer by a route and reports whether it counts. By a route
// through our KubeSpan it proves that the member has this address there, if the
// member saw us at ours: whoever passed our request on would show another. From
// then on bare datagrams from there are the member's. mu is held.
func (m *Mesh) proves(id identity.NodeID, r peering.Route, seen netip.AddrPort) bool {
	if !r.KubeSpan {
		return true
	}
	if seen != netip.AddrPortFrom(m.span.now().Address, m.cfg.Socket.LocalAddr().Port()) {
		m.counters.strangers.Add(1)
		return false
	}
	m.tunnel.Know(id, r.Remote)
	return true
}

// kubeSpanLoop follows the KubeSpan of this host.
func (m *Mesh) kubeSpanLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.KubeSpan.Changes():
		}
		state := m.cfg.KubeSpan.State()
		m.do(func() { m.takeKubeSpan(state) })
		m.signals.look()
	}
}

// takeKubeSpan makes the parts follow the KubeSpan; mu is held.
func (m *Mesh) takeKubeSpan(state kubespan.State) {
	before := m.span.now()
	m.span.state.Store(&state)
	m.mark(state.Link != 0)
	if state.Address != before.Address || state.Link != before.Link || state.Present != before.Present {
		m.tunnel.SetKubeSpan(state.Link, state.Address)
		for _, s := range m.roster.All() {
			if m.tunnel.HasPeer(s.ID()) {
				m.setCandidates(s.ID(), s.Record())
			}
		}
	}
	if state.Address != m.record.KubeSpan {
		m.record.KubeSpan = state.Address
		m.publish()
	}
	if len(state.Peers) > len(before.Peers) || state.Address != before.Address {
		m.joining.again()
	}
	m.later(m.watch.changed)
}

// mark puts the mark on our datagrams where a KubeSpan is, and takes it away
// where none is; mu is held.
func (m *Mesh) mark(wanted bool) {
	if wanted == m.span.marked {
		return
	}
	mark := uint32(0)
	if wanted {
		mark = bypassMark
	}
	err := m.cfg.Socket.SetMark(mark)
	if err == nil {
		m.span.marked = wanted
	} else if m.span.markErr == nil && !errors.Is(err, os.ErrPermission) {
		m.log.Warn("datagrams not marked to stay out of a dead KubeSpan", "err", err)
	}
	m.span.markErr = err
}

// KubeSpanStatus is what is known of this host's KubeSpan.
type KubeSpanStatus struct {
	kubespan.State
	// Marked: our datagrams carry the mark that keeps them out of it; MarkErr is
	// why they do not though there is one.
	Marked  bool
	MarkErr error
}

func (m *Mesh) kubeSpanStatus() (s KubeSpanStatus) {
	if m.cfg.KubeSpan == nil {
		return s
	}
	s.State = m.cfg.KubeSpan.State()
	m.do(func() { s.Marked, s.MarkErr = m.span.marked, m.span.markErr })
	return s
}

// setCandidates tells peering the addresses that a member says of itself; mu is
// held.
func (m *Mesh) setCandidates(id identity.NodeID, record roster.Record) {
	m.peering.SetCandidates(id, record.Endpoints)
	m.peering.SetDoors(id, m.doorsOf(record))
	m.apply(m.peering.SetKubeSpan(m.now(), id, m.kubeSpanAddrs(record)))
}

// kubeSpanAddrs are the addresses of a member in the KubeSpan that we share with
// it, none if we share none: at our port, and at those that it says elsewhere,
// where its port may be another.
func (m *Mesh) kubeSpanAddrs(record roster.Record) []netip.AddrPort {
	if !record.KubeSpan.IsValid() || !m.sharesKubeSpan(record.KubeSpan) {
		return nil
	}
	all := []netip.AddrPort{netip.AddrPortFrom(record.KubeSpan, m.cfg.Socket.LocalAddr().Port())}
	for _, e := range record.Endpoints {
		if a := netip.AddrPortFrom(record.KubeSpan, e.Port()); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// kubeSpanTargets are addresses to join through that need no configuration:
// those of the KubeSpan's peers where no member is known to be alive, a few in
// random order.
func (m *Mesh) kubeSpanTargets() []netip.AddrPort {
	state := m.span.now()
	members := make(map[netip.Addr]bool)
	m.do(func() {
		for _, s := range m.roster.All() {
			if m.alive[s.ID()] {
				members[s.Record().KubeSpan] = true
			}
		}
	})
	var targets []netip.AddrPort
	for _, p := range state.Peers {
		if p.Address.IsValid() && !members[p.Address] {
			targets = append(targets, netip.AddrPortFrom(p.Address, m.cfg.Socket.LocalAddr().Port()))
		}
	}
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	return targets[:min(len(targets), rejoinMost)]
}
