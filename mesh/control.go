package mesh

import (
	"context"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/internal/plane"
	"github.com/serialspan/serialspan/mesh/internal/probe"
	"github.com/serialspan/serialspan/mesh/peering"
)

// control is a datagram that is not WireGuard's, and the way back to its sender.
type control struct {
	n     int
	size  int                 // of the datagram as it came, of which n bytes are kept
	buf   [join.FirstLen]byte // the longest kind
	route peering.Route
}

// expireEvery is how often join handshakes are looked through.
const expireEvery = time.Second

// addressesEvery is how often our own addresses are looked at.
const addressesEvery = 10 * time.Second

// takeControl queues a control datagram from the socket for the control loop. It
// runs on wireguard-go's goroutine and never waits.
func (m *Mesh) takeControl(datagram []byte, from netip.AddrPort, local netip.Addr, link int) {
	route := peering.Route{Remote: from, Local: local}
	if m.span.forged(from.Addr(), local, link) {
		m.counters.strangers.Add(1)
		return
	}
	switch datagram[0] {
	case probe.Type:
		m.takeProbe(datagram, route)
	case join.TypeFirst, join.TypeSecond, join.TypeThird:
		m.queueControl(m.joins, datagram, len(datagram), route)
	default:
		m.counters.strangers.Add(1)
	}
}

// takeProbe is takeControl for a probe, which may come through a relay too. What
// it is padded with is left behind.
func (m *Mesh) takeProbe(datagram []byte, route peering.Route) {
	m.queueControl(m.probes, datagram, min(len(datagram), probe.Len), route)
}

// queueControl queues the first keep bytes of a datagram.
func (m *Mesh) queueControl(queue chan<- *control, datagram []byte, keep int, route peering.Route) {
	if keep > join.FirstLen {
		m.counters.strangers.Add(1)
		return
	}
	c := m.controls.Get().(*control)
	c.n, c.size, c.route = copy(c.buf[:], datagram[:keep]), len(datagram), route
	select {
	case queue <- c:
	default:
		m.controls.Put(c)
		m.counters.controlDropped.Add(1)
	}
}

// controlLoop handles probes and join messages, and does what peering finds
// due.
func (m *Mesh) controlLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	addresses := time.NewTicker(addressesEvery)
	defer addresses.Stop()
	for {
		look := true
		select {
		case <-ctx.Done():
			return
		case c := <-m.probes:
			look = m.handleProbe(c)
			m.controls.Put(c)
		case c := <-m.joins:
			look = m.handleJoin(c)
			m.controls.Put(c)
		case <-expire.C:
			if silent := m.join.Expire(m.now()); len(silent) > 0 {
				m.do(func() { m.joining.silent(silent, m.alive) })
			}
			look = false
		case <-addresses.C:
			m.do(func() { m.lookAtAddresses(); m.tellDoors() })
			m.forgetGone()
			m.removeIdle(idleAfter)
			look = false
		case <-m.signals.wake:
		case <-timer.C:
		}
		if look {
			timer.Reset(m.look())
		}
	}
}

// look takes the signals, lets peering do what is due and returns the time
// until it has to be looked at again.
func (m *Mesh) look() time.Duration {
	if m.signals.takeBurnt() {
		m.rekey()
	}
	paths, handshakes := m.signals.take()
	var wait time.Duration
	m.do(func() {
		now := m.now()
		for id := range handshakes {
			// Of a pair the smaller NodeID initiates; the larger one asks.
			m.apply(m.peering.Announce(now, id, m.self.Compare(id) > 0))
		}
		for id, own := range paths {
			m.usePeer(id) // it may be one to pass a message on to
			if own {
				m.apply(m.peering.Want(now, id))
			} else {
				m.apply(m.peering.WantStraight(now, id))
			}
			if m.doors.across[id] {
				m.apply(m.peering.Show(now, id))
			}
		}
		effects, next := m.peering.Tick(now, m.tunnel.Activity)
		m.apply(effects)
		if m.relaysChanged {
			m.relaysChanged = false
			m.lookForRelays()
			next = now // it may have begun searches
		}
		wait = next - now
	})
	return wait
}

// handleProbe opens a probe and reports whether it was one.
func (m *Mesh) handleProbe(c *control) (ok bool) {
	m.do(func() {
		sender, _ := probe.SenderIn(c.buf[:c.n])
		id, known := m.senders[sender]
		if !known {
			m.counters.strangers.Add(1)
			return
		}
		pair := m.pair(id)
		if pair == nil {
			return
		}
		p, err := pair.Open(c.buf[:c.n])
		if err != nil {
			m.counters.strangers.Add(1)
			return
		}
		ok = true
		if !m.usePeer(id) {
			return
		}
		m.classify(id, &c.route)
		if m.triesSize(id, c, p) {
			return
		}
		switch p.Kind {
		case probe.Request:
			m.apply(m.peering.Request(m.now(), id, c.route, p.Token, p.Initiate))
		case probe.Answer:
			if !m.proves(id, c.route, p.Seen) {
				return
			}
			m.apply(m.peering.Answer(m.now(), id, c.route, p.Token))
			if !c.route.IsRelay() && !c.route.KubeSpan {
				m.seenAs(p.Seen)
				m.relaysChanged = m.doors.seen(id, p.Seen, m.cfg.Advertise) || m.relaysChanged
			}
			m.skews[id] = time.Duration(p.Wall-m.cfg.Wall().UnixNano()) + m.peering.Status(id).RoundTrip/2
		}
	})
	return ok
}

// pair returns the probe keys with a member, nil where there can be none; mu
// is held.
func (m *Mesh) pair(id identity.NodeID) *probe.Pair {
	if p := m.pairs[id]; p != nil {
		return p
	}
	signed, ok := m.roster.Get(id)
	if !ok || id == m.self {
		return nil
	}
	p, err := probe.NewPair(m.private, signed.Record().WireGuard)
	if err != nil {
		m.log.Debug("member has an unusable key", "node", id.Short(), "err", err)
		return nil
	}
	m.pairs[id] = p
	return p
}

// apply carries out what peering decided; mu is held.
func (m *Mesh) apply(effects []peering.Effect) {
	for _, e := range effects {
		switch e.Kind {
		case peering.SendRequest:
			m.sendProbe(e.Peer, e.Route, probe.Probe{Kind: probe.Request, Token: e.Token, Initiate: e.Ask}, probe.Len)
		case peering.SendAnswer:
			m.sendProbe(e.Peer, e.Route, m.answerTo(e.Token, e.Route), probe.Len)
		case peering.Introduce:
			m.beginJoin(e.Route.Remote)
		case peering.Initiate:
			m.tunnel.Initiate(e.Peer)
		case peering.PathUp, peering.PathMoved, peering.PathDown:
			m.changePath(e)
		case peering.ReplyBy:
			m.tunnel.SetRoute(e.Peer, e.Route)
		case peering.PathBack:
			m.nudge(e.Peer)
		}
	}
}

// answerTo is the answer to a probe that came by a route.
func (m *Mesh) answerTo(token uint64, r peering.Route) probe.Probe {
	return probe.Probe{Kind: probe.Answer, Token: token, Seen: r.Remote, Wall: m.cfg.Wall().UnixNano()}
}

// sendProbe sends a probe as a datagram of at least size bytes; mu is held.
func (m *Mesh) sendProbe(id identity.NodeID, r peering.Route, p probe.Probe, size int) {
	pair := m.pair(id)
	if pair == nil {
		return
	}
	if r.KubeSpan {
		size = max(size, bareProbe)
	}
	datagram := probe.Pad(pair.Seal(p), size)
	// A datagram that cannot be sent is one that is lost.
	if r.IsRelay() {
		m.usePeer(r.Via) // one of the member's relays is perhaps none yet
		_ = m.tunnel.TryRelay(r.Via, byte(plane.Relay), id, datagram)
	} else {
		_ = m.cfg.Socket.WriteTo(datagram, r.Remote, r.Local)
	}
}

// renewAfter is the outage after which a new QUIC connection is faster than
// the back-off of the old one (measured, DESIGN section 6).
const renewAfter = 300 * time.Millisecond

func (m *Mesh) changePath(e peering.Effect) {
	m.log.Debug("path changed", "node", e.Peer.Short(), "path", e.Route.String(), "down", e.Down)
	m.tunnel.SetRoute(e.Peer, e.Route)
	m.relaysChanged = true
	switch {
	case e.Kind == peering.PathUp && e.Down > renewAfter:
		m.later(func() { m.quic.RenewOlder(e.Peer, e.Down) })
		m.backAfter(e.Peer, e.Down)
	case e.Kind == peering.PathMoved, e.Kind == peering.PathUp && e.Down > 0:
		m.nudge(e.Peer) // on a first path, WireGuard has kept what was sent
	}
	m.later(m.watch.changed)
}

// nudge has QUIC find out what was lost on the path to a member.
func (m *Mesh) nudge(id identity.NodeID) {
	m.later(func() { m.quic.Nudge(id, pingProtocol) })
}

// send hands a datagram of the plane to the tunnel. A member that is not a
// peer of it yet becomes one.
func (m *Mesh) send(to identity.NodeID, kind plane.Kind, payload []byte, wait bool) error {
	send := m.tunnel.TrySend
	if wait {
		send = m.tunnel.Send
	}
	if m.tunnel.HasPeer(to) {
		return send(to, byte(kind), payload)
	}
	var ok bool
	m.do(func() { ok = m.usePeer(to) })
	if !ok {
		return plane.ErrNotMember
	}
	return send(to, byte(kind), payload)
}

// usePeer makes a member a peer of the tunnel if it is none; mu is held.
func (m *Mesh) usePeer(id identity.NodeID) bool {
	if m.tunnel.HasPeer(id) {
		return true
	}
	signed, ok := m.roster.Get(id)
	if !ok || id == m.self {
		return false
	}
	record := signed.Record()
	if err := m.tunnel.SetPeer(id, record.WireGuard); err != nil {
		m.log.Debug("member cannot be a peer", "node", id.Short(), "err", err)
		return false
	}
	m.setCandidates(id, record)
	if s := m.peering.Status(id); !s.Route.IsZero() {
		m.tunnel.SetRoute(id, s.Route) // it was a peer before, see removeIdle
	}
	m.added[id] = m.now()
	return true
}

// idleAfter is how long nothing may go to or come from a peer before it is
// removed: longer than any WireGuard session lives without traffic (180 s), so
// that no side is left with one that the other has forgotten.
const idleAfter = 5 * time.Minute

// removeIdle removes the WireGuard peers that have no session and were silent
// for so long. What peering knows of their paths stays.
func (m *Mesh) removeIdle(after time.Duration) {
	m.do(func() {
		for _, id := range m.tunnel.Peers() {
			sent, heard := m.tunnel.Activity(id)
			if m.sessions[id] > 0 || m.peering.IsKept(id) || m.now()-max(sent, heard, m.added[id]) < after {
				continue
			}
			m.tunnel.RemovePeer(id)
			m.relaysChanged = true
			delete(m.added, id)
			m.log.Debug("idle peer removed", "node", id.Short())
		}
	})
}
