package mesh

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

// doorsEvery is how often the doors in our record may change.
const doorsEvery = time.Minute

// doors are the relays to which this node, behind a router, keeps paths open,
// so that members reach it that the router does not let in. Its record names
// them: in a large mesh a caller would else have to guess, and a relay that the
// router has forgotten is no way in. Guarded by Mesh.mu.
type doors struct {
	addrs   []netip.Addr             // this host's own
	across  map[identity.NodeID]bool // members that see us elsewhere: a router is between
	offers  map[identity.NodeID]bool // members that pass messages on
	chosen  []identity.NodeID
	written time.Duration // when our record last changed for them
}

// seen notes at which address of ours a member's answer saw us; at one of this
// host's, the two have no router between them that could forget us.
func (d *doors) seen(by identity.NodeID, at netip.AddrPort, advertised []netip.AddrPort) (changed bool) {
	a := at.Addr()
	across := !slices.Contains(d.addrs, a) && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(advertised, at)
	changed = across != d.across[by]
	d.across[by] = across
	return changed
}

func (d *doors) forget(id identity.NodeID) {
	delete(d.across, id)
	delete(d.offers, id)
}

// chooseDoors takes the best of the relays that we reach straight for doors, and
// keeps the paths to them; mu is held.
func (m *Mesh) chooseDoors(relays []identity.NodeID) {
	type door struct {
		id        identity.NodeID
		hidden    int // 1: it is behind a router itself, so that not all reach it
		roundTrip time.Duration
	}
	var all []door
	for _, id := range relays {
		s := m.peering.Status(id)
		// Whether one in our KubeSpan is beyond our router cannot be seen.
		if !m.doors.across[id] && !(s.Route.KubeSpan && len(m.seen) > 0) {
			continue
		}
		d := door{id: id, roundTrip: s.RoundTrip}
		if signed, ok := m.roster.Get(id); ok && len(signed.Record().Through) > 0 {
			d.hidden = 1
		}
		if slices.Contains(m.doors.chosen, id) {
			d.roundTrip /= 2 // others learn of a change only in a while
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b door) int {
		return cmp.Or(cmp.Compare(a.hidden, b.hidden), cmp.Compare(a.roundTrip, b.roundTrip), a.id.Compare(b.id))
	})
	m.doors.chosen = m.doors.chosen[:0]
	for _, d := range all[:min(len(all), roster.MaxThrough)] {
		m.doors.chosen = append(m.doors.chosen, d.id)
	}
	m.peering.SetKept(m.doors.chosen)
}

// tellDoors publishes our doors if they have changed; mu is held.
func (m *Mesh) tellDoors() {
	hints := make([]roster.RelayHint, 0, roster.MaxThrough)
	added := false
	for _, id := range m.doors.chosen {
		hints = append(hints, roster.HintOf(id))
		added = added || !slices.Contains(m.record.Through, roster.HintOf(id))
	}
	same := !added && len(hints) == len(m.record.Through) // in another order is the same
	if same || (m.doors.written > 0 && m.now()-m.doors.written < doorsEvery) {
		return
	}
	m.doors.written = m.now()
	m.record.Through = hints
	m.publish()
}

// doorsOf returns the relays that a member's record names, best first; mu is
// held.
func (m *Mesh) doorsOf(record roster.Record) (doors []identity.NodeID) {
	for _, hint := range record.Through {
		for id := range m.doors.offers {
			if roster.HintOf(id) == hint && len(doors) < 2*roster.MaxThrough {
				doors = append(doors, id)
			}
		}
	}
	return doors
}
