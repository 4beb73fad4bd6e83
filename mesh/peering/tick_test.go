package peering_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// TestTickLooksAtWhomItConcerns: what happens to one member of many does not
// make Tick look at the others, and what they are due for still happens.
func TestTickLooksAtWhomItConcerns(t *testing.T) {
	const members = 500
	tokens := uint64(0)
	m := peering.New(func() uint64 { tokens++; return tokens })
	id := func(i int) identity.NodeID { return identity.NodeID{byte(i), byte(i >> 8), 1} }
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 51821)
	}
	now := time.Second
	for i := range members { // all have a path
		m.SetCandidates(id(i), []netip.AddrPort{addr(i)})
		for _, e := range m.Want(now, id(i)) {
			m.Answer(now, id(i), e.Route, e.Token)
		}
	}
	asked := 0
	var sent time.Duration // when something was sent to the last member, which stays silent
	activity := func(one identity.NodeID) (time.Duration, time.Duration) {
		asked++
		if one == id(members-1) {
			return sent, 0
		}
		return 0, 0
	}
	m.Tick(now, activity)
	answered := now
	asked, sent = 0, now+ms
	doubted := time.Duration(0)
	for i := range 2000 { // probes of one member, 20 s long
		now += 10 * ms
		m.Request(now, id(0), peering.Route{Remote: addr(0)}, uint64(i), false)
		effects, _ := m.Tick(now, activity)
		for _, e := range effects {
			if e.Kind == peering.SendRequest && e.Peer == id(members-1) && doubted == 0 {
				doubted = now - answered
			}
		}
	}
	if asked > 2000+5*members+100 {
		t.Errorf("%d looks at %d members in 20 s and 2,000 events of one", asked, members)
	}
	if doubted < 10*time.Second || doubted > 15*time.Second {
		t.Errorf("the silent member is doubted after %v, want 10 to 15 s", doubted)
	}
}
