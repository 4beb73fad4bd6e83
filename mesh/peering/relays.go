package peering

import (
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// MaxRelays bounds the relays that are tried for a member.
const MaxRelays = 3

// SetRelays sets the members that may pass messages on, best first; those
// beyond MaxRelays are left out. They must have straight paths themselves: a
// message takes one hop. Paths through others are lost.
func (m *Machine) SetRelays(now time.Duration, relays []identity.NodeID) (effects []Effect) {
	m.relays = slices.Clone(relays[:min(len(relays), MaxRelays)])
	for _, p := range m.peers {
		if p.path.IsRelay() && !slices.Contains(relays, p.path.Via) {
			effects = append(effects, p.lose(now)...)
			p.restart(now)
			effects = append(effects, m.search(now, p)...)
			m.touched[p.id] = struct{}{}
		}
	}
	return effects
}

// SetDoors sets the relays to which a member keeps paths open: through them it
// is reached however long it was silent, so they are tried before others.
func (m *Machine) SetDoors(id identity.NodeID, doors []identity.NodeID) {
	m.peer(id).doors = slices.Clone(doors)
}

// SetKept says to which members the path is to be kept open through a NAT on our
// side; for all others it is not any more.
func (m *Machine) SetKept(ids []identity.NodeID) {
	for id, p := range m.peers {
		if kept := slices.Contains(ids, id); kept != p.kept {
			p.kept = kept
			m.touched[id] = struct{}{}
		}
	}
}

// IsKept reports whether the path to a member is kept open.
func (m *Machine) IsKept(id identity.NodeID) bool {
	p, ok := m.peers[id]
	return ok && p.kept
}

// Show says that something goes to a member with a router between, on a straight
// path that was silent until now: if our router has forgotten it, the member
// sees us at another port and must be told, or we hear nothing from it.
func (m *Machine) Show(now time.Duration, id identity.NodeID) []Effect {
	p, ok := m.touch(id)
	if !ok || p.path.IsZero() || p.path.IsRelay() || p.path.KubeSpan || now-p.asked < keepEvery {
		return nil
	}
	return []Effect{m.request(now, p, p.path)}
}

// probeRelays sends a probe through the member's doors and our relays, but not
// through that of its path.
func (m *Machine) probeRelays(now time.Duration, p *peer) []Effect {
	all := slices.Clone(p.doors)
	for _, via := range m.relays {
		if !slices.Contains(all, via) {
			all = append(all, via)
		}
	}
	return m.probeThrough(now, p, all)
}

func (m *Machine) probeThrough(now time.Duration, p *peer, relays []identity.NodeID) (effects []Effect) {
	for _, via := range relays {
		if r := (Route{Via: via}); via != p.id && !r.same(p.path) {
			effects = append(effects, m.request(now, p, r))
		}
	}
	return effects
}

// isFaster reports whether an answer after so long by another relay than the
// path's shows that one to be the better: by a quarter and 5 ms, so that two
// alike do not take turns.
func (p *peer) isFaster(r Route, took time.Duration) bool {
	return r.IsRelay() && p.path.IsRelay() && p.doubt == trusted && took < p.roundTrip-max(p.roundTrip/4, 5*time.Millisecond)
}

// isStale reports whether a path through a relay was silent for so long that the
// routers before us and before the member may have forgotten it.
func (p *peer) isStale(now time.Duration) bool {
	return p.path.IsRelay() && now-max(p.heard, p.answered) >= keepEvery
}
