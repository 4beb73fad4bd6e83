// Package plane carries datagrams between members, whatever path they take: a
// net.PacketConn addressed by member for each kind of traffic.
//
// Every datagram begins with one kind byte, so that gossip, QUIC and relayed
// packets never mistake each other: memberlist's labelled packets begin with
// byte 244, which is a valid QUIC long header.
//
//	kind 1  gossip  memberlist packets, at most 1150 bytes
//	kind 2  quic    QUIC packets, at most 1200 bytes
//	kind 3  relay   to be passed on: NodeID of the receiver (16) ‖ message
//	kind 4  relayed passed on: NodeID of the sender (16) ‖ message
//
// The message of the last two is a datagram of the underlay, WireGuard's or a
// sealed probe: a QUIC packet of 1200 bytes is 1296 as WireGuard message and
// 1313 with the relay's header. Only kind 3 is passed on, and becomes kind 4:
// so a message takes one hop.
//
// The plane starts no goroutine. It is lossy: what arrives while a reader's
// queue is full is dropped and counted, because Deliver runs on the tunnel's
// goroutines and must not wait.
package plane

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Kind is the first byte of every datagram between members. Numbers are
// append-only.
type Kind byte

// The kinds of datagram.
const (
	Gossip Kind = 1
	QUIC   Kind = 2
	// Relay asks the receiver to pass a message on.
	Relay Kind = 3
	// Relayed is a message that was passed on.
	Relayed Kind = 4
)

// Addr is the address of a member on the plane. It is comparable.
type Addr struct{ ID identity.NodeID }

// Network implements net.Addr.
func (Addr) Network() string { return "serialspan" }

// String implements net.Addr: the NodeID's text.
func (a Addr) String() string { return a.ID.String() }

// NodeOf returns the member of an address of the plane.
func NodeOf(a net.Addr) (identity.NodeID, bool) {
	addr, ok := a.(Addr)
	return addr.ID, ok
}

// ErrNotMember is returned by WriteTo for a member that cannot be sent to:
// nothing is known about it.
var ErrNotMember = errors.New("not a known member")

// SendFunc hands one datagram to the path of a member. wait says whether the
// caller would rather wait for room than have it dropped. An error means that
// it was not sent; nil does not mean that it arrives.
type SendFunc func(to identity.NodeID, kind Kind, payload []byte, wait bool) error

// PassFunc handles a message that a member asks to be passed on to another, or
// that from passed on for another. It must not wait or keep message.
type PassFunc func(from, other identity.NodeID, message []byte)

// Config is what a Plane needs. Self and Send must be set.
type Config struct {
	Self identity.NodeID
	Send SendFunc
	// Relay gets the messages to pass on, Relayed those passed on to us; nil
	// drops and counts them.
	Relay, Relayed PassFunc
}

// Plane distributes datagrams by kind. It is safe for concurrent use.
type Plane struct {
	cfg     Config
	gossip  *Conn
	quic    *Conn
	unknown atomic.Uint64
}

// New makes a plane.
func New(cfg Config) *Plane {
	p := &Plane{cfg: cfg}
	// QUIC paces itself and takes a drop for congestion, so its writer waits;
	// gossip comes again anyway and must not hold up its own timers.
	p.gossip = newConn(p, Gossip, false)
	p.quic = newConn(p, QUIC, true)
	return p
}

// Gossip returns the connection of membership packets.
func (p *Plane) Gossip() *Conn { return p.gossip }

// QUIC returns the connection of QUIC packets.
func (p *Plane) QUIC() *Conn { return p.quic }

// Deliver hands a datagram from a member to the reader of its kind. It never
// waits and does not keep payload. Kinds that nobody reads are dropped and
// counted.
func (p *Plane) Deliver(from identity.NodeID, kind Kind, payload []byte) {
	switch kind {
	case Gossip:
		p.gossip.deliver(from, payload)
	case QUIC:
		p.quic.deliver(from, payload)
	case Relay:
		p.pass(p.cfg.Relay, from, payload)
	case Relayed:
		p.pass(p.cfg.Relayed, from, payload)
	default:
		p.unknown.Add(1)
	}
}

func (p *Plane) pass(to PassFunc, from identity.NodeID, payload []byte) {
	if to == nil || len(payload) <= identity.NodeIDLen {
		p.unknown.Add(1)
		return
	}
	to(from, identity.NodeID(payload[:identity.NodeIDLen]), payload[identity.NodeIDLen:])
}

// Dropped returns how many datagrams were dropped on arrival: because their
// reader was too slow, and because their kind is unknown.
func (p *Plane) Dropped() (slow, unknown uint64) {
	return p.gossip.dropped.Load() + p.quic.dropped.Load(), p.unknown.Load()
}
