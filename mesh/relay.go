package mesh

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/plane"
	"github.com/serialspan/serialspan/mesh/internal/probe"
	"github.com/serialspan/serialspan/mesh/peering"
)

// RelayMode says whether this node passes messages on for members that cannot
// reach each other.
type RelayMode int

const (
	// RelayAuto: it offers to as soon as two members reach it straight.
	RelayAuto RelayMode = iota
	// RelayOn: it always offers to.
	RelayOn
	// RelayOff: it never does.
	RelayOff
)

// What one pair of members may have passed on, each way: more than a serial
// device ever needs, and little enough to leave an uplink to others.
const (
	relayRate  = 1 << 20 // bytes per second
	relayBurst = 1 << 19 // bytes
	// maxRelayPairs bounds the pairs that are counted; the pair that was
	// silent longest makes room.
	maxRelayPairs = 1024
)

// relay passes messages on between members. It runs on wireguard-go's
// goroutines, so it never waits: its mutex is a leaf, held for a few
// instructions.
type relay struct {
	offered atomic.Bool

	mu      sync.Mutex
	buckets map[relayPair]*relayBucket

	passed, limited, refused atomic.Uint64
}

type relayPair struct{ from, to identity.NodeID }

type relayBucket struct {
	tokens int
	at     time.Duration
}

// allow spends n bytes of what a pair may send.
func (r *relay) allow(now time.Duration, pair relayPair, n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[pair]
	if b == nil {
		if r.buckets == nil {
			r.buckets = make(map[relayPair]*relayBucket)
		}
		if len(r.buckets) >= maxRelayPairs {
			r.dropSilentest()
		}
		b = &relayBucket{tokens: relayBurst, at: now}
		r.buckets[pair] = b
	}
	b.tokens = min(relayBurst, b.tokens+int(float64(now-b.at)/float64(time.Second)*relayRate))
	b.at = now
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

func (r *relay) dropSilentest() {
	var silentest relayPair
	first := true
	for pair, b := range r.buckets {
		if first || b.at < r.buckets[silentest].at {
			silentest, first = pair, false
		}
	}
	delete(r.buckets, silentest)
}

// passOn hands a message of one member to another, once: what it sends cannot
// be passed on again. It runs on wireguard-go's goroutine and takes no lock of
// the mesh: whoever holds that may be waiting for this goroutine.
func (m *Mesh) passOn(from, to identity.NodeID, message []byte) {
	if !m.relay.offered.Load() || to == m.self || to == from {
		m.relay.refused.Add(1)
		return
	}
	if !m.relay.allow(m.now(), relayPair{from, to}, len(message)) {
		m.relay.limited.Add(1)
		return
	}
	if !m.tunnel.IsStraight(to) {
		m.signals.wantStraight(to) // the next one will find it
		return
	}
	if m.tunnel.TryRelay(to, byte(plane.Relayed), from, message) == nil {
		m.relay.passed.Add(1)
	}
}

// takeRelayed takes a message that a member passed on to us: WireGuard's, or a
// sealed probe. Who sent it is not believed; both are sealed by the sender.
func (m *Mesh) takeRelayed(via, _ identity.NodeID, message []byte) {
	if message[0] == probe.Type {
		m.takeProbe(message, peering.Route{Via: via})
		return
	}
	m.tunnel.Inject(message)
}

// lookForRelays tells peering which members may pass messages on for us, and
// offers ourselves; mu is held.
func (m *Mesh) lookForRelays() {
	type relayed struct {
		id        identity.NodeID
		roundTrip time.Duration
	}
	var relays []relayed
	straight := 0
	for _, id := range m.tunnel.Peers() {
		s := m.peering.Status(id)
		if s.Route.IsZero() || s.Route.IsRelay() {
			continue
		}
		straight++
		if signed, ok := m.roster.Get(id); ok && signed.Relay() {
			relays = append(relays, relayed{id, s.RoundTrip})
		}
	}
	slices.SortFunc(relays, func(a, b relayed) int { return cmp.Or(cmp.Compare(a.roundTrip, b.roundTrip), a.id.Compare(b.id)) })
	ids := make([]identity.NodeID, 0, len(relays))
	for _, r := range relays {
		ids = append(ids, r.id)
	}
	m.apply(m.peering.SetRelays(m.now(), ids))
	m.chooseDoors(ids)
	if m.cfg.Relay == RelayAuto && straight >= 2 && !m.record.Relay {
		m.record.Relay = true
		m.relay.offered.Store(true)
		m.publish()
	}
}
