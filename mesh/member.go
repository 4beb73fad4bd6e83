package mesh

import (
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/peering"
)

// State is what gossip says of a member's liveness.
type State int

const (
	// Known: a record is known from earlier, but gossip has not met the member
	// in this process's life.
	Known State = iota
	// Alive members answer.
	Alive
	// Left members stopped in order.
	Left
	// Dead members stopped answering.
	Dead
)

// String returns the state's name in lower case.
func (s State) String() string {
	names := [...]string{"known", "alive", "left", "dead"}
	if s < 0 || int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}

// Member is a member as this node sees it now.
type Member struct {
	ID        identity.NodeID
	Self      bool
	Name      string // self-given: it chooses, it never authorises
	State     State
	Version   string // software version; empty: not told
	Epoch     uint64
	Address   netip.Addr // mesh address
	Endpoints []netip.AddrPort
	KubeSpan  netip.Addr // its address in a KubeSpan, ours or another; zero: none

	Path      string        // "kubespan", "direct", "via NAME", "self", or empty: none now
	Endpoint  string        // where datagrams go, for people; empty: nowhere
	RoundTrip time.Duration // smoothed; 0: not measured
	Heard     time.Duration // since data last came from it; negative: never

	// Skew is how far its wall clock is ahead of ours (behind: negative), for
	// people only; meaningful if SkewKnown.
	Skew      time.Duration
	SkewKnown bool
}

// Members returns every known member, this node included, by ascending NodeID.
func (m *Mesh) Members() []Member {
	states := make(map[identity.NodeID]State)
	for _, g := range m.gossip.Members() {
		states[g.ID] = stateOf(g.State)
	}
	var all []Member
	m.do(func() {
		for _, signed := range m.roster.All() {
			record, id := signed.Record(), signed.ID()
			member := Member{
				ID: id, Self: id == m.self, Name: record.Name, State: states[id], Version: record.Version,
				Epoch: record.Epoch, Address: m.Address(id), Endpoints: record.Endpoints, KubeSpan: record.KubeSpan, Heard: -1,
			}
			if member.Self {
				member.State, member.Path, member.Heard = Alive, "self", 0
			} else {
				m.describePath(&member, m.peering.Status(id))
			}
			all = append(all, member)
		}
	})
	return all
}

// member returns what is known of one member.
func (m *Mesh) member(id identity.NodeID) (Member, bool) {
	for _, member := range m.Members() {
		if member.ID == id {
			return member, true
		}
	}
	return Member{}, false
}

func (m *Mesh) describePath(member *Member, s peering.Status) {
	switch {
	case s.Route.IsRelay():
		member.Path = "via " + m.nameOf(s.Route.Via)
	case s.Route.KubeSpan:
		member.Path, member.Endpoint = "kubespan", s.Route.String()
	case !s.Route.IsZero():
		member.Path, member.Endpoint = "direct", s.Route.String()
	}
	member.RoundTrip = s.RoundTrip
	member.Skew, member.SkewKnown = m.skew(member.ID)
	if _, heard := m.tunnel.Activity(member.ID); heard > 0 {
		member.Heard = m.now() - heard
	}
}

// nameOf returns a member's name for people.
func (m *Mesh) nameOf(id identity.NodeID) string {
	if signed, ok := m.roster.Get(id); ok {
		return signed.Record().Name
	}
	return id.Short()
}

// skew returns how far a member's wall clock is ahead, if it is known; mu is
// held.
func (m *Mesh) skew(id identity.NodeID) (ahead time.Duration, known bool) {
	ahead, known = m.skews[id]
	return ahead, known
}

func stateOf(s gossip.State) State {
	switch s {
	case gossip.Alive:
		return Alive
	case gossip.Left:
		return Left
	default:
		return Dead
	}
}

// Status is what is worth knowing about this node's part in the mesh.
type Status struct {
	ID      identity.NodeID
	Name    string
	Address netip.Addr // mesh address
	Listen  netip.AddrPort
	Epoch   uint64
	// Sequence counts the records of this epoch.
	Sequence uint64
	// Twin: another machine runs with this node's identity.
	Twin bool

	KubeSpan KubeSpanStatus

	// Datagrams that were not carried, since the start.
	Strangers      uint64 // opened with none of our keys, or of no known kind
	ControlDropped uint64 // came faster than they could be looked at
	PlaneDropped   uint64 // readers were too slow
	NoRoute        uint64 // for members without a path
	SendErrors     uint64 // refused by the socket
	BareRefused    uint64 // KubeSpan's datagrams by another interface, or to another address
	BareUnknown    uint64 // KubeSpan's datagrams from where no member is known to be

	// CookiesMet counts handshakes in which our WireGuard wanted a cookie without
	// a load: it does after its wall clock went back.
	CookiesMet uint64

	// Messages of others that we were asked to pass on.
	RelayPassed  uint64
	RelayLimited uint64 // more than a pair may send
	RelayRefused uint64 // we do not offer it, or it is to nobody

	// Join handshakes, since the start.
	JoinAnswered  uint64 // first messages that we answered
	JoinCompleted uint64 // on either side
	JoinRefused   uint64 // the secret fitted, something else did not
	JoinJunk      uint64 // did not open: a stranger, or another secret
	JoinStray     uint64 // of no handshake under way: late, repeated or made up
	JoinLimited   uint64 // dropped by a rate limit
	JunkSources   []JunkSource
}

// JunkSource is where join messages came from that did not open: a node there
// may have another secret.
type JunkSource struct {
	Source netip.Prefix // an IPv4 address or an IPv6 /64
	Count  uint64
}

// Status returns the node's own state and counters.
func (m *Mesh) Status() Status {
	slow, unknown := m.plane.Dropped()
	tunnel := m.tunnel.Stats()
	s := Status{
		ID: m.self, Address: m.Address(m.self), Listen: m.cfg.Socket.LocalAddr(),
		Strangers:      m.counters.strangers.Load() + tunnel.Strangers.Load(),
		ControlDropped: m.counters.controlDropped.Load(),
		PlaneDropped:   slow + unknown,
		NoRoute:        tunnel.NoRoute.Load(),
		SendErrors:     tunnel.SendErrors.Load(),
		BareRefused:    tunnel.BareRefused.Load(),
		BareUnknown:    tunnel.BareUnknown.Load(),
		CookiesMet:     tunnel.CookiesMet.Load(),
		RelayPassed:    m.relay.passed.Load(),
		RelayLimited:   m.relay.limited.Load(),
		RelayRefused:   m.relay.refused.Load(),
	}
	joins := m.join.Stats()
	s.JoinAnswered, s.JoinCompleted, s.JoinRefused = joins.Answered, joins.Completed, joins.Refused
	s.JoinJunk, s.JoinLimited, s.JoinStray = joins.Junk, joins.Limited, joins.Stray+joins.Repeated+joins.Replayed
	for _, source := range joins.Sources {
		s.JunkSources = append(s.JunkSources, JunkSource{source.Source, source.Junk})
	}
	s.KubeSpan = m.kubeSpanStatus()
	m.do(func() { s.Name, s.Epoch, s.Sequence, s.Twin = m.record.Name, m.record.Epoch, m.record.Sequence, m.twin })
	return s
}
