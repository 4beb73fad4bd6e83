package peering

import (
	"net/netip"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// span is what is remembered of a member's KubeSpan path. A KubeSpan that comes
// and goes must not carry a session along with it: once it has died it has to
// prove itself before it is used again.
type span struct {
	died    bool // it was left because it was dead
	need    int  // answers in a row that it owes then
	proved  int  // answers in a row so far
	proof   time.Duration
	takenAt time.Duration
}

// taken notes that a path is used from now on.
func (s *span) taken(now time.Duration, r Route) {
	if r.KubeSpan {
		s.takenAt, s.died, s.proved = now, false, 0
	}
}

// dead notes that the KubeSpan path has died.
func (s *span) dead(now time.Duration) {
	switch {
	case s.need == 0, now-s.takenAt >= flapTime:
		s.need = steadyFirst
	default:
		s.need = min(2*s.need, steadyMost)
	}
	s.died, s.proved = true, 0
}

// tried notes that a better path is tried once more; last is when it was before.
func (s *span) tried(last time.Duration) {
	if s.proof < last {
		s.proved = 0 // that went unanswered
	}
}

// leave notes why the path is given up: it is dead.
func (p *peer) leave(now time.Duration) {
	if p.path.KubeSpan {
		p.span.dead(now)
	}
}

// steady takes an answer by a better route than the path and reports whether
// that may be used now.
func (p *peer) steady(now time.Duration, r Route) bool {
	s := &p.span
	if !r.KubeSpan || !s.died {
		return true
	}
	if s.proved > 0 && now-s.proof < upgradeFirst/2 {
		return false // of the same try
	}
	s.proved++
	s.proof = now
	if s.proved >= s.need {
		return true
	}
	p.upgradeGap, p.nextUpgrade = upgradeFirst, now+upgradeFirst
	return false
}

// SetKubeSpan sets the addresses at which a member may be reached in the
// KubeSpan that we share with it, none if we share none; they are tried at once.
// A path by another address in a KubeSpan is lost.
func (m *Machine) SetKubeSpan(now time.Duration, id identity.NodeID, addrs []netip.AddrPort) (effects []Effect) {
	p := m.peer(id)
	gone := func(r Route) bool {
		return r.KubeSpan && !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return a.Addr() == r.Remote.Addr() })
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c candidate) bool { return gone(c.route) })
	news := false
	for _, a := range addrs {
		r := Route{Remote: a, KubeSpan: true}
		news = news || !slices.ContainsFunc(p.candidates, func(c candidate) bool { return c.route.same(r) })
		p.addCandidate(r, true)
	}
	switch {
	case gone(p.path):
		last := now // until now it carried
		if p.doubt != trusted {
			last = max(p.heard, p.since)
		}
		effects = p.lose(last)
		p.restart(now)
		effects = append(effects, m.search(now, p)...)
	case news && !p.path.IsZero() && p.hasBetter():
		p.upgradeGap, p.nextUpgrade = upgradeFirst, now
		effects = m.upgrade(now, p)
	}
	return effects
}
