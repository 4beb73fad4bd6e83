package peering

import (
	"net/netip"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// The times of the policy, from DESIGN section 6.
const (
	// quietInUse: with a session in use, this long without anything received
	// puts the path in doubt, and is the gap between the probes that follow.
	quietInUse = 250 * time.Millisecond
	// quietIdle: the same for a member that we sent something and that stays
	// silent. WireGuard's own keepalives are not seen, so the doubt is often
	// unfounded, and costs one probe.
	quietIdle = 10 * time.Second
	// longestGap bounds the gap between the probes of a path in doubt, which is
	// two round trips where those are long.
	longestGap = time.Second
	// keepEvery: a path through a NAT that is to stay open gets a probe when we
	// sent nothing for so long. Linux forgets a flow after 30 s at the earliest.
	keepEvery = 25 * time.Second
	// deadAfter probes without an answer the path is dead.
	deadAfter = 3
	// wantedFor: a search goes on this long after the last Want.
	wantedFor = time.Minute
	// replyFor: how long a member without a path is replied to the way that its
	// last request came.
	replyFor = time.Second
	// askFor: probes ask for a handshake this long after Announce; then
	// the asker initiates itself.
	askFor = 2 * time.Second
	// probeLife: an answer later than this counts no more.
	probeLife = 5 * time.Second
	// introduceFrom: the round from which a join handshake goes along. With a
	// member never met it goes along with introduceStranger already: gossip may
	// not have brought it our record yet. Mostly it has; the first round is left
	// to find that out, because a handshake is 3 kB and the most costly thing
	// that two members do.
	introduceFrom     = 2
	introduceStranger = 1
	// At least so long between introductions to a member without an answer, 1,200
	// bytes each: it grows from introduceFirst to introduceLast, and stays at
	// introduceFirst while a session is in use. Each handshake that WireGuard
	// tries begins the rounds anew.
	introduceFirst = 2 * time.Second
	introduceLast  = 25 * time.Second

	// relayFrom: the round from which relays are tried too. The addresses of
	// the member itself have a head start.
	relayFrom = 1
	// On a path that is not of the best kind, better ones are tried again after
	// a gap that grows from upgradeFirst to upgradeLast, to returnLast for a
	// KubeSpan.
	upgradeFirst = time.Second
	upgradeLast  = time.Minute
	returnLast   = 5 * time.Second
	// A KubeSpan that was left because it had died has to answer so often, a
	// second apart, before it is used again; twice as often each time it dies
	// within flapTime of that.
	steadyFirst = 3
	steadyMost  = 48
	flapTime    = time.Minute

	firstRound = 100 * time.Millisecond
	lastRound  = 25 * time.Second
	// With a session in use, rounds are this far apart for the first minute
	// without a path, and then a second: a session resumes as soon as its path
	// is back, but nobody is probed hard for ever.
	roundInUse     = 125 * time.Millisecond
	lastRoundInUse = time.Second
	hastyFor       = time.Minute

	// reactGap: a request from elsewhere makes us look at the path once in
	// this time. Two members with two addresses each would otherwise answer
	// each other's probes with more of them for ever.
	reactGap = time.Second

	// MaxCandidates bounds the addresses kept for a member; the oldest one
	// that was only seen goes first.
	MaxCandidates = 16
	maxInFlight   = 64
)

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// Status is what the machine knows about a member's path.
type Status struct {
	Route     Route         // zero: no path
	Since     time.Duration // when it came up, or when it was lost
	RoundTrip time.Duration // smoothed over probes; 0: not measured
	Doubt     bool
}

// Activity returns when data last left for a member and last came from it.
type Activity func(identity.NodeID) (sent, heard time.Duration)

// Machine holds the paths to all members. It must not be used concurrently.
// Make one with New.
type Machine struct {
	token  func() uint64
	peers  map[identity.NodeID]*peer
	relays []identity.NodeID // best first

	touched map[identity.NodeID]struct{} // changed since the last Tick
	lookAt  time.Duration                // when Tick has to look at all members
	next    time.Duration                // what Tick returned last
}

// New returns a machine without members. token draws the random echo tokens of
// probes.
func New(token func() uint64) *Machine {
	return &Machine{token: token, peers: make(map[identity.NodeID]*peer), touched: make(map[identity.NodeID]struct{})}
}

// SetCandidates adds a member, or changes the addresses that it says of itself.
// Addresses at which it was seen stay.
func (m *Machine) SetCandidates(id identity.NodeID, said []netip.AddrPort) {
	p := m.peer(id)
	p.candidates = slices.DeleteFunc(p.candidates, func(c candidate) bool { return !c.seen && !c.route.KubeSpan })
	for i := range p.candidates {
		p.candidates[i].said = p.candidates[i].route.KubeSpan
	}
	for _, addr := range said {
		p.addCandidate(Route{Remote: addr}, true)
	}
}

// Reached says that a join handshake with the member was completed by r: it
// knows our key now. A search for a path begins at once.
func (m *Machine) Reached(now time.Duration, id identity.NodeID, r Route) []Effect {
	p := m.peer(id)
	p.met = true
	p.addCandidate(r, false)
	if p.path.IsZero() {
		p.restart(now)
	}
	return m.Want(now, id)
}

// Reset forgets the path and the probes under way: the member has a new key.
// The effects take the path away.
func (m *Machine) Reset(now time.Duration, id identity.NodeID) []Effect {
	p, ok := m.touch(id)
	if !ok {
		return nil
	}
	clear(p.inFlight)
	effects := append(p.lose(now), p.endReplies()...)
	p.span = span{} // that was no death of the KubeSpan
	p.restart(now)
	return effects
}

// Remove forgets a member.
func (m *Machine) Remove(id identity.NodeID) { delete(m.peers, id) }

// Status returns what is known about a member's path.
func (m *Machine) Status(id identity.NodeID) Status {
	p, ok := m.peers[id]
	if !ok {
		return Status{}
	}
	return Status{Route: p.path, Since: p.since, RoundTrip: p.roundTrip, Doubt: p.doubt != trusted}
}

// Routes returns where the member may be told something now: its path, or
// without one all its candidates.
func (m *Machine) Routes(id identity.NodeID) []Route {
	p, ok := m.peers[id]
	switch {
	case !ok:
		return nil
	case !p.path.IsZero():
		return []Route{p.path}
	}
	var all []Route
	for _, c := range p.candidates {
		all = append(all, c.route)
	}
	return all
}

// Want says that something should go to a member. A search for a path begins
// at once, or goes on.
func (m *Machine) Want(now time.Duration, id identity.NodeID) []Effect {
	p, ok := m.touch(id)
	if !ok {
		return nil
	}
	if !p.wanted(now) && p.path.IsZero() {
		p.restart(now)
	}
	p.wantedUntil = now + wantedFor
	return m.search(now, p)
}

// WantStraight is Want on behalf of another member, which wants a message
// passed on. Only the member's own addresses are searched: a message takes one
// hop. A search through relays would make each of them search in turn, and two
// relays would keep each other searching for ever for a member that is gone.
func (m *Machine) WantStraight(now time.Duration, id identity.NodeID) []Effect {
	p, ok := m.touch(id)
	if !ok {
		return nil
	}
	if !p.sought(now) && p.path.IsZero() {
		p.restart(now)
	}
	p.passUntil = now + wantedFor
	return m.search(now, p)
}

// Announce says that we begin a WireGuard handshake with the member: a probe
// tells it. With ask, for two seconds the probes ask it to initiate instead.
func (m *Machine) Announce(now time.Duration, id identity.NodeID, ask bool) []Effect {
	p, ok := m.touch(id)
	if !ok {
		return nil
	}
	asking := now < p.askUntil
	if ask {
		p.askUntil = now + askFor
	}
	if !p.path.IsZero() {
		return []Effect{m.request(now, p, p.path)}
	}
	if ask && !asking {
		p.restart(now) // the rounds so far did not ask
	}
	return m.Want(now, id)
}

// SetInUse says whether a session with the member is open.
func (m *Machine) SetInUse(now time.Duration, id identity.NodeID, inUse bool) []Effect {
	p, ok := m.touch(id)
	if !ok || p.inUse == inUse {
		return nil
	}
	p.inUse = inUse
	if inUse && p.path.IsZero() {
		p.restart(now)
		return m.search(now, p)
	}
	switch {
	case inUse && p.isStale(now):
		p.doubt, p.missed, p.nextProbe = quiet, 1, now // all are asked at once
		return m.probePath(now, p)
	case inUse:
		return []Effect{m.request(now, p, p.path)} // its round trip may be an old story
	}
	return nil
}

// Request handles an authenticated probe request that came by r.
func (m *Machine) Request(now time.Duration, id identity.NodeID, r Route, token uint64, ask bool) []Effect {
	p := m.peer(id)
	p.met = true
	effects := []Effect{{Kind: SendAnswer, Peer: id, Route: r, Token: token}}
	if ask {
		effects = append(effects, Effect{Kind: Initiate, Peer: id})
	}
	p.addCandidate(r, false)
	if p.doubt == quiet && !p.path.same(r) {
		// It tries other ways itself, and its data may come by one already: they
		// must not end this doubt.
		p.doubt = elsewhere
	}
	switch {
	case p.path.IsZero():
		// It reaches us here, so this is the best guess at reaching it; and it
		// tries our addresses now, so with a NAT on both sides this is the
		// moment to try its.
		p.wantedUntil = max(p.wantedUntil, now+wantedFor)
		if now-p.lastBack >= firstRound || p.lastBack == 0 {
			p.lastBack = now
			effects = append(effects, m.request(now, p, r))
			effects = append(effects, p.replyBy(now, r)...)
			if r.IsRelay() {
				effects = append(effects, m.probeAll(now, p, r)...)
			}
		}
	case p.path.same(r):
	case r.better(p.path):
		// A KubeSpan that is not trusted yet on either side would be probed
		// back and forth for ever.
		if !p.span.died || now-p.lastBack >= reactGap {
			p.lastBack = now
			effects = append(effects, m.request(now, p, r))
		}
	case p.doubt == trusted && now-p.confirmed >= reactGap && (now-p.reacted >= reactGap || p.reacted == 0):
		// It may have moved, or use another relay because ours does not reach it
		// any more. Data from it would hide that our path is dead, so only an
		// answer ends this doubt.
		p.reacted = now
		p.doubt, p.missed, p.nextProbe = elsewhere, 0, now
		if p.path.IsRelay() {
			p.missed = -1 // it tries all relays from time to time: one lost probe proves nothing
		}
		effects = append(effects, m.probePath(now, p)...)
		effects = append(effects, m.request(now, p, r))
	}
	return effects
}

// Answer handles an authenticated probe answer that came by r. An answer to
// nothing that was asked changes nothing.
func (m *Machine) Answer(now time.Duration, id identity.NodeID, r Route, token uint64) []Effect {
	p, ok := m.touch(id)
	if !ok {
		return nil
	}
	asked, ok := p.inFlight[token]
	if !ok || now-asked.at > probeLife {
		return nil
	}
	delete(p.inFlight, token)
	p.answered, p.met = now, true
	if !r.same(asked.route) {
		// A NAT in between answers from elsewhere; we send where we asked.
		r = asked.route
	}
	if p.path.same(r) {
		p.measure(now - asked.at)
		p.confirmed = now
	}
	switch {
	case p.path.IsZero():
		down := time.Duration(0)
		if p.since > 0 {
			down = now - p.since
		}
		p.use(now, r)
		p.measure(now - asked.at)
		return []Effect{{Kind: PathUp, Peer: id, Route: r, Down: down}}
	case p.path.same(r):
		silent := p.missed > 1
		p.doubt, p.missed = trusted, 0
		if silent {
			return []Effect{{Kind: PathBack, Peer: id, Route: r}}
		}
		return nil
	case p.isFaster(r, now-asked.at):
		p.use(now, r)
		p.measure(now - asked.at)
		return []Effect{{Kind: PathMoved, Peer: id, Route: r}}
	case r.better(p.path) && p.steady(now, r), p.missed > 1:
		// One probe of the path has surely gone unanswered, not just slower
		// than this one.
		if p.missed > 1 {
			p.leave(now)
		}
		p.use(now, r)
		p.measure(now - asked.at)
		return []Effect{{Kind: PathMoved, Peer: id, Route: r}}
	}
	return nil
}

func (m *Machine) peer(id identity.NodeID) *peer {
	p, ok := m.peers[id]
	if !ok {
		p = &peer{id: id, inFlight: make(map[uint64]flight)}
		m.peers[id] = p
	}
	m.touched[id] = struct{}{}
	return p
}
