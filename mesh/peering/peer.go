package peering

import (
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// doubt is whether a path is believed in.
type doubt int

const (
	trusted   doubt = iota
	quiet           // nothing received; anything received ends it
	elsewhere       // a request came from elsewhere; only an answer ends it
)

// candidate is an address at which a member may be reached.
type candidate struct {
	route Route
	said  bool // by the member's record
	seen  bool // the member was really heard from there
}

// flight is a probe request without an answer yet.
type flight struct {
	route Route
	at    time.Duration
}

// peer is the state of one member.
type peer struct {
	id          identity.NodeID
	candidates  []candidate
	inFlight    map[uint64]flight
	path        Route
	since       time.Duration // of the path, or of its loss; 0: never had one
	roundTrip   time.Duration
	answered    time.Duration // last answer
	heard       time.Duration // last anything, as of the last look
	confirmed   time.Duration // last answer by the path
	reacted     time.Duration // last look at the path because of a request from elsewhere
	inUse       bool
	kept        bool              // see SetKept
	doors       []identity.NodeID // see SetDoors
	asked       time.Duration     // last probe request by the path
	met         bool              // it has shown that it knows our key
	wantedUntil time.Duration
	passUntil   time.Duration // the same for the sake of others, see WantStraight
	askUntil    time.Duration

	due time.Duration // when Tick has to look at it

	// searching
	round        int
	nextRound    time.Duration
	introduced   time.Duration
	introduceGap time.Duration // until the next
	lastBack     time.Duration // last request sent back to a requester

	// without a path
	replyRoute Route // zero: none
	replyUntil time.Duration

	// watching
	doubt     doubt
	missed    int
	nextProbe time.Duration

	// on a path that is not of the best kind
	upgradeGap  time.Duration
	nextUpgrade time.Duration
	upgraded    time.Duration // last try

	span span
}

func (p *peer) wanted(now time.Duration) bool { return p.inUse || now < p.wantedUntil }

// sought reports whether a search goes on, for our sake or for that of others.
func (p *peer) sought(now time.Duration) bool { return p.wanted(now) || now < p.passUntil }

func (p *peer) addCandidate(r Route, said bool) {
	if r.IsRelay() {
		return // those are the machine's
	}
	for i := range p.candidates {
		if c := &p.candidates[i]; c.route.same(r) {
			if r.Local.IsValid() {
				c.route.Local = r.Local
			}
			c.said, c.seen = c.said || said, c.seen || !said
			return
		}
	}
	if len(p.candidates) >= MaxCandidates {
		oldest := slices.IndexFunc(p.candidates, func(c candidate) bool { return !c.said })
		if oldest < 0 {
			return
		}
		p.candidates = slices.Delete(p.candidates, oldest, oldest+1)
	}
	p.candidates = append(p.candidates, candidate{route: r, said: said, seen: !said})
}

// restart begins the rounds of a search anew.
func (p *peer) restart(now time.Duration) { p.round, p.nextRound = 0, now }

func (p *peer) use(now time.Duration, r Route) {
	p.path, p.since, p.confirmed = r, now, now
	p.replyRoute = Route{}
	p.doubt, p.missed, p.nextProbe = trusted, 0, 0
	p.roundTrip = 0 // of another path
	p.introduceGap = 0
	p.upgradeGap, p.nextUpgrade = upgradeFirst, never
	if p.hasBetter() {
		p.nextUpgrade = now + upgradeFirst
	}
	p.span.taken(now, r)
}

// replyBy replies to a member without a path by the route of its request, for a
// while. A KubeSpan is to be trusted first.
func (p *peer) replyBy(now time.Duration, r Route) []Effect {
	if r.KubeSpan {
		return nil
	}
	p.replyUntil = now + replyFor
	if r.same(p.replyRoute) {
		return nil
	}
	p.replyRoute = r
	return []Effect{{Kind: ReplyBy, Peer: p.id, Route: r}}
}

func (p *peer) endReplies() []Effect {
	if p.replyRoute.IsZero() {
		return nil
	}
	p.replyRoute = Route{}
	return []Effect{{Kind: ReplyBy, Peer: p.id}}
}

// hasBetter reports whether a route of a better kind than the path's may exist.
func (p *peer) hasBetter() bool {
	return p.path.IsRelay() || slices.ContainsFunc(p.candidates, func(c candidate) bool { return c.route.better(p.path) })
}

// lose takes the path away. last is the last sign of life on it, from which the
// outage counts.
func (p *peer) lose(last time.Duration) []Effect {
	if p.path.IsZero() {
		return nil
	}
	p.leave(last)
	p.path, p.since = Route{}, last
	p.doubt, p.missed = trusted, 0
	return []Effect{{Kind: PathDown, Peer: p.id}}
}

// measure smooths the round trip as RFC 6298 does, but believes a shorter one at
// once: probes are rare, and the first of a path is often slow, because both
// sides have just started.
func (p *peer) measure(sample time.Duration) {
	if p.roundTrip == 0 || sample < p.roundTrip {
		p.roundTrip = sample
		return
	}
	p.roundTrip += (sample - p.roundTrip) / 8
}

// request makes the effect of one probe request and remembers it.
func (m *Machine) request(now time.Duration, p *peer, r Route) Effect {
	p.dropOldFlights(now)
	if r.same(p.path) {
		p.asked = now
	}
	token := m.token()
	p.inFlight[token] = flight{route: r, at: now}
	return Effect{Kind: SendRequest, Peer: p.id, Route: r, Token: token, Ask: now < p.askUntil}
}

// dropOldFlights forgets the requests that are not answered any more, and the
// oldest where there are too many.
func (p *peer) dropOldFlights(now time.Duration) {
	var oldest uint64
	at := never
	for token, f := range p.inFlight {
		if now-f.at > probeLife {
			delete(p.inFlight, token)
		} else if f.at < at {
			oldest, at = token, f.at
		}
	}
	if len(p.inFlight) >= maxInFlight {
		delete(p.inFlight, oldest)
	}
}

// search sends the round of probes that is due while a member without a path
// is wanted.
func (m *Machine) search(now time.Duration, p *peer) []Effect {
	if !p.path.IsZero() || !p.sought(now) || now < p.nextRound {
		return nil
	}
	effects := m.probeAll(now, p, Route{})
	switch {
	case !p.wanted(now) || p.round < relayFrom:
	case p.round == relayFrom && len(p.doors) > 0:
		effects = append(effects, m.probeThrough(now, p, p.doors)...)
	default:
		effects = append(effects, m.probeRelays(now, p)...)
	}
	stranger := p.round >= introduceStranger && !p.met
	if p.wanted(now) && (stranger || p.round >= introduceFrom) && (p.introduced == 0 || now-p.introduced >= p.introduceGap) {
		p.introduced = now
		p.introduceGap = min(max(2*p.introduceGap, introduceFirst), introduceLast)
		if p.inUse {
			p.introduceGap = introduceFirst
		}
		for _, c := range p.candidates {
			effects = append(effects, Effect{Kind: Introduce, Peer: p.id, Route: c.route})
		}
	}
	most := lastRound
	switch {
	case p.inUse && now-p.since < hastyFor:
		most = roundInUse
	case p.inUse:
		most = lastRoundInUse
	}
	p.nextRound = now + min(firstRound<<min(p.round, 16), most)
	p.round++
	return effects
}

// probeAll sends a probe to every address of a member but that of one route.
func (m *Machine) probeAll(now time.Duration, p *peer, but Route) (effects []Effect) {
	for _, c := range p.candidates {
		if !c.route.same(but) {
			effects = append(effects, m.request(now, p, c.route))
		}
	}
	return effects
}

// upgrade tries from time to time whether a member can be reached on a better
// kind of path.
func (m *Machine) upgrade(now time.Duration, p *peer) (effects []Effect) {
	if now < p.nextUpgrade {
		return nil
	}
	last := upgradeLast
	for _, c := range p.candidates {
		if c.route.better(p.path) {
			effects = append(effects, m.request(now, p, c.route))
			if c.route.KubeSpan {
				last = returnLast
			}
		}
	}
	if p.inUse && p.path.IsRelay() {
		effects = append(effects, m.probeRelays(now, p)...)
	}
	p.span.tried(p.upgraded)
	p.upgraded = now
	p.nextUpgrade = now + p.upgradeGap
	p.upgradeGap = min(2*p.upgradeGap, last)
	return effects
}

// watch looks whether the path is still alive. heard is when anything was last
// received from the member.
func (m *Machine) watch(now time.Duration, p *peer, sent, heard time.Duration) []Effect {
	p.heard = heard
	if p.doubt == quiet && now-heard < quietInUse {
		p.doubt, p.missed = trusted, 0
	}
	if p.doubt == trusted {
		if now < p.quietAt(sent, heard) {
			return nil
		}
		p.doubt, p.missed, p.nextProbe = quiet, 0, now
	}
	if p.missed >= deadAfter && now >= p.nextProbe {
		effects := p.lose(max(heard, p.since))
		p.restart(now)
		return append(effects, m.search(now, p)...)
	}
	return m.probePath(now, p)
}

// probePath goes on with the probes of a path in doubt: the path itself, and
// from the second on the other candidates too.
func (m *Machine) probePath(now time.Duration, p *peer) []Effect {
	if now < p.nextProbe {
		return nil
	}
	p.nextProbe = now + min(max(quietInUse, 2*p.roundTrip), longestGap)
	p.missed++
	effects := []Effect{m.request(now, p, p.path)}
	if p.missed > 1 {
		effects = append(effects, m.probeAll(now, p, p.path)...)
		effects = append(effects, m.probeRelays(now, p)...)
	}
	return effects
}

// quietAt is when the silence becomes a doubt, or a router that is to be kept
// from forgetting us has to be shown something: the doubt sends it.
func (p *peer) quietAt(sent, heard time.Duration) time.Duration {
	heard = max(heard, p.since)
	at := never
	if p.kept && !p.path.IsRelay() && !p.path.KubeSpan {
		at = max(sent, p.asked, p.since) + keepEvery
	}
	switch {
	case p.inUse:
		at = min(at, heard+quietInUse)
	case sent > heard:
		at = min(at, heard+quietIdle)
	}
	return at
}

// nextLook is when the path has to be looked at again.
func (p *peer) nextLook(sent, heard time.Duration) time.Duration {
	if p.doubt != trusted {
		return min(p.nextProbe, p.nextUpgrade)
	}
	return min(p.quietAt(sent, heard), p.nextUpgrade)
}
