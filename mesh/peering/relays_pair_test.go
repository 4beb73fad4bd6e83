package peering_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// relayed runs two machines against each other that have nothing but relays
// between them, and hear each other's data all the time.
type relayed struct {
	now      time.Duration
	side     [2]*peering.Machine
	id       [2]identity.NodeID
	delay    map[identity.NodeID]time.Duration // through a relay, one way
	deaf     [2]map[identity.NodeID]bool       // a relay that does not reach the side any more
	loss     float64
	random   *rand.Rand
	post     []relayedLetter
	requests int
	moves    int
	path     [2]peering.Route
}

type relayedLetter struct {
	at     time.Duration
	to     int
	via    identity.NodeID
	answer bool
	token  uint64
}

func newRelayed(delays ...time.Duration) *relayed {
	p := &relayed{
		now: time.Second, id: [2]identity.NodeID{{1}, {2}}, delay: make(map[identity.NodeID]time.Duration),
		deaf: [2]map[identity.NodeID]bool{{}, {}}, random: rand.New(rand.NewPCG(0, 0)),
	}
	var relays []identity.NodeID
	for i, d := range delays {
		relays = append(relays, identity.NodeID{byte(100 + i)})
		p.delay[relays[i]] = d
	}
	var tokens uint64
	for i := range 2 {
		p.side[i] = peering.New(func() uint64 { tokens++; return tokens })
		p.side[i].SetCandidates(p.id[1-i], nil)
		p.side[i].SetRelays(p.now, relays)
	}
	for i := range 2 {
		p.do(i, p.side[i].SetInUse(p.now, p.id[1-i], true))
	}
	return p
}

func (p *relayed) do(side int, effects []peering.Effect) {
	for _, e := range effects {
		switch e.Kind {
		case peering.SendRequest, peering.SendAnswer:
			if e.Kind == peering.SendRequest {
				p.requests++
			}
			if via := e.Route.Via; !p.deaf[1-side][via] && p.random.Float64() >= p.loss {
				p.post = append(p.post, relayedLetter{p.now + p.delay[via], 1 - side, via, e.Kind == peering.SendAnswer, e.Token})
			}
		case peering.PathUp, peering.PathMoved, peering.PathDown:
			p.moves++
			p.path[side] = e.Route
		}
	}
}

func (p *relayed) run(d time.Duration) {
	const step = 5 * ms
	for end := p.now + d; p.now < end; p.now += step {
		post := p.post
		p.post = nil
		for _, l := range post {
			from := peering.Route{Via: l.via}
			switch {
			case l.at > p.now:
				p.post = append(p.post, l)
			case l.answer:
				p.do(l.to, p.side[l.to].Answer(p.now, p.id[1-l.to], from, l.token))
			default:
				p.do(l.to, p.side[l.to].Request(p.now, p.id[1-l.to], from, l.token, false))
			}
		}
		for i := range 2 {
			effects, _ := p.side[i].Tick(p.now, func(identity.NodeID) (time.Duration, time.Duration) { return p.now, p.now })
			p.do(i, effects)
		}
	}
}

// Members in use try all relays each minute. That must not move their paths, nor
// make them probe each other on and on, where now and then a datagram is lost.
func TestGoodRelaysAreKept(t *testing.T) {
	for _, c := range []struct {
		loss   float64
		delays []time.Duration
	}{{0.05, []time.Duration{40 * ms, 42 * ms, 45 * ms}}, {0.02, []time.Duration{200 * ms, 210 * ms, 190 * ms}}} {
		for seed := range uint64(6) {
			p := newRelayed(c.delays...)
			p.random = rand.New(rand.NewPCG(seed, 2))
			p.run(time.Minute)
			p.loss = c.loss
			requests, moves := p.requests, p.moves
			p.run(time.Hour)
			if p.moves != moves {
				t.Errorf("seed %d, %+v: %d moves, on %v", seed, c, p.moves-moves, p.path)
			}
			if n := p.requests - requests; n > 1000 {
				t.Errorf("seed %d, %+v: %d requests in an hour", seed, c, n)
			}
		}
	}
}

// A relay stops reaching one of the two, which goes on through another; the other
// hears it all the time, by that one.
func TestRelayThatReachesNoMore(t *testing.T) {
	for _, delays := range [][]time.Duration{{20 * ms, 30 * ms}, {200 * ms, 250 * ms}} {
		p := newRelayed(delays...)
		p.run(10 * time.Second)
		first := p.path[0].Via
		if first.IsZero() || p.path[1].Via != first {
			t.Fatalf("paths %v, want the same relay", p.path)
		}
		p.deaf[0][first] = true
		p.do(0, p.side[0].Reset(p.now, p.id[1])) // as when it found its path silent
		p.run(3 * time.Second)
		if other := p.path[0].Via; other == first || other.IsZero() || p.path[1].Via != other {
			t.Errorf("%v: paths %v, want both on the other relay", delays, p.path)
		}
	}
}
