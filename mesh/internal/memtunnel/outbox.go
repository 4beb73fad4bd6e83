package memtunnel

import (
	"encoding/binary"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

// Types and sizes of WireGuard's messages (white paper, section 5.4), and what
// is in front of a payload inside: IPv6, UDP and kind.
const (
	typeInitiation = 1
	typeResponse   = 2
	typeData       = 4

	initiationLen = 148
	responseLen   = 92
	keepaliveLen  = 32
	inside        = 40 + 8 + 1
	padding       = 16

	nodeAt    = 4
	kindAt    = nodeAt + identity.NodeIDLen
	lengthAt  = kindAt + 1
	payloadAt = lengthAt + 2
)

// outbox collects what a change of a peer sends and tells; the tunnel's mutex
// is held until flush.
type outbox struct {
	t           *Tunnel
	datagrams   [][]byte
	route       peering.Route
	handshaking bool
	wantPath    bool
}

func (o *outbox) flush(id identity.NodeID) {
	for _, d := range o.datagrams {
		o.t.write(id, d, o.route)
	}
	if o.handshaking {
		o.t.cfg.Handshaking(id)
	}
	if o.wantPath {
		o.t.cfg.WantPath(id)
	}
}

// send sends a datagram on the peer's route.
func (o *outbox) send(p *peer, d []byte) {
	if p.route.IsZero() {
		o.t.stats.NoRoute.Add(1)
		o.wantPath = true
		return
	}
	now := o.t.cfg.Now()
	o.wantPath = o.wantPath || now-max(p.sent, p.heard) >= tunnel.Silent
	p.sent, o.route = now, p.route
	o.datagrams = append(o.datagrams, d)
}

// data sends data, or keeps it until there is a session.
func (o *outbox) data(p *peer, d []byte) {
	age := time.Since(p.session)
	if p.session.IsZero() || age > rejectAfter {
		if len(p.staged) < maxStaged {
			p.staged = append(p.staged, d)
		}
		if p.trying.IsZero() {
			o.begin(p)
		}
		return
	}
	if p.initiated && age > rekeyAfter && p.trying.IsZero() {
		o.begin(p)
	}
	p.owes = false
	o.send(p, d)
}

// begin begins a handshake: at once where it is our turn, else after the other
// side had time to.
func (o *outbox) begin(p *peer) {
	p.trying, p.tries = time.Now(), 0
	o.handshaking = true
	if p.route.IsZero() {
		o.wantPath = true
	}
	if o.t.cfg.Self.Compare(p.id) < 0 {
		o.initiate(p)
		return
	}
	o.again(p, askFirst)
}

// initiate sends an initiation if there is a route, and again without an
// answer.
func (o *outbox) initiate(p *peer) {
	after := rekeyTimeout
	if !p.route.IsZero() && (o.t.cfg.Self.Compare(p.id) < 0 || time.Since(p.trying) >= askFirst) {
		o.send(p, handshake(typeInitiation, o.t.cfg.Self))
		after = repeatAfter[p.tries%len(repeatAfter)]
		p.tries++
	}
	o.again(p, after)
}

func (o *outbox) again(p *peer, after time.Duration) {
	if p.repeat != nil {
		p.repeat.Stop()
	}
	p.repeat = time.AfterFunc(after, func() {
		o.t.edit(p.id, func(now *peer, out *outbox) {
			if now != p || p.trying.IsZero() {
				return
			}
			if len(p.staged) == 0 && time.Since(p.trying) > rekeyTimeout {
				p.trying = time.Time{}
				return
			}
			out.initiate(p)
		})
	})
}

// establish notes that a handshake is complete and sends what waited for it: for
// its initiator with the response, for the other side, as the white paper has it
// (section 5.1), with the first data, which confirms that the response arrived.
func (o *outbox) establish(p *peer, began time.Time, initiated bool) {
	p.session, p.initiated = began, initiated
	p.responded, p.trying = time.Time{}, time.Time{}
	if p.repeat != nil {
		p.repeat.Stop()
	}
	for _, d := range p.staged {
		o.send(p, d)
	}
	if initiated && len(p.staged) == 0 {
		o.send(p, keepalive(o.t.cfg.Self)) // it confirms the session
	}
	p.staged = nil
}

// owe sends a keepalive in a while if nothing else leaves before.
func (o *outbox) owe(p *peer) {
	p.owes = true
	if p.keepalive != nil {
		p.keepalive.Stop()
	}
	p.keepalive = time.AfterFunc(keepaliveAfter, func() {
		o.t.edit(p.id, func(now *peer, out *outbox) {
			if now == p && p.owes {
				p.owes = false
				out.send(p, keepalive(o.t.cfg.Self))
			}
		})
	})
}

func handshake(kind byte, self identity.NodeID) []byte {
	size := initiationLen
	if kind == typeResponse {
		size = responseLen
	}
	d := make([]byte, size)
	d[0] = kind
	copy(d[nodeAt:], self[:])
	return d
}

func keepalive(self identity.NodeID) []byte {
	d := make([]byte, keepaliveLen)
	d[0] = typeData
	copy(d[nodeAt:], self[:])
	return d
}

func encode(self identity.NodeID, kind byte, payload []byte) []byte {
	padded := (inside + len(payload) + padding - 1) / padding * padding
	d := make([]byte, keepaliveLen+padded)
	d[0] = typeData
	copy(d[nodeAt:], self[:])
	d[kindAt] = kind
	binary.BigEndian.PutUint16(d[lengthAt:], uint16(len(payload)))
	copy(d[payloadAt:], payload)
	return d
}

// decode reads a datagram; payload aliases it.
func decode(d []byte) (from identity.NodeID, kind byte, payload []byte, ok bool) {
	if len(d) < keepaliveLen {
		return from, 0, nil, false
	}
	from = identity.NodeID(d[nodeAt:kindAt])
	if d[0] != typeData || len(d) == keepaliveLen {
		return from, 0, nil, true
	}
	n := int(binary.BigEndian.Uint16(d[lengthAt:]))
	if payloadAt+n > len(d) {
		return from, 0, nil, false
	}
	return from, d[kindAt], d[payloadAt : payloadAt+n], true
}
