package join

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

// minSecond is the length of the shortest second message: type, two ids, e,
// sealed s, sealed empty payload.
const minSecond = 1 + 4 + 4 + keyLen + (keyLen + tagLen) + tagLen

// begun is a handshake that this node began.
//
//	waiting for message 2 (third == nil) ──▶ done (third repeated on demand) ──▶ forgotten after Lifetime
type begun struct {
	at        time.Duration
	to        netip.AddrPort
	key       Key
	sent      [32]byte   // hash of the record in message 1
	handshake *handshake // nil when done
	second    []byte     // when done: the message 2 that was answered,
	from      netip.AddrPort
	third     []byte // and the answer
}

// Begin makes the first message of a new handshake, to be sent to to. now is
// the time since the process started. Each call draws new keys: a first message
// is never sent twice. It fails if the own record does not fit the key
// (ErrOwnRecord), or if Config.Rand fails.
func (m *Machine) Begin(now time.Duration, to netip.AddrPort) ([]byte, error) {
	return m.BeginWith(now, to, 0)
}

// BeginWith is Begin with another join key than the first, by its index in
// SetKeys: for a member that may not know the newest secret. An index without a
// key, or of a key that is UseNamed, makes nothing.
func (m *Machine) BeginWith(now time.Duration, to netip.AddrPort, key int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key >= len(m.keys) || m.keys[key].Use == UseNamed {
		return nil, nil
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	own, ok := m.ownRecord()
	if !ok {
		return nil, fmt.Errorf("begin join with %s: %w", to, ErrOwnRecord)
	}
	datagram, b, id, err := m.first(own, m.keys[key])
	if err != nil {
		return nil, fmt.Errorf("begin join with %s: %w", to, err)
	}
	b.at, b.to = now, to
	if len(m.begun) >= maxBegun {
		m.dropOldestBegun()
	}
	m.begun[id] = b
	m.stats.Begun++
	return datagram, nil
}

// first makes message 1 and the handshake that it begins.
func (m *Machine) first(own roster.Signed, key Key) ([]byte, *begun, handshakeID, error) {
	var id handshakeID
	for {
		if err := m.random(id[:]); err != nil {
			return nil, nil, id, err
		}
		if _, taken := m.begun[id]; !taken {
			break
		}
	}
	h, err := m.newHandshake(true, key)
	if err != nil {
		return nil, nil, id, err
	}
	p := payload{Version: protocolVersion, Record: own.Wire()}
	plain, err := p.encode()
	if err != nil {
		return nil, nil, id, err
	}
	padded := make([]byte, FirstLen-1-len(id)-keyLen-tagLen)
	copy(padded, plain) // a record has at most 450 bytes
	message, err := h.begin(padded)
	if err != nil {
		return nil, nil, id, err
	}
	datagram := append(append([]byte{TypeFirst}, id[:]...), message...)
	return datagram, &begun{key: key, sent: own.Hash(), handshake: h}, id, nil
}

func (m *Machine) newHandshake(initiator bool, key Key) (*handshake, error) {
	var ephemeral [keyLen]byte
	if err := m.random(ephemeral[:]); err != nil {
		return nil, err
	}
	return newHandshake(m.config.Secret.Cluster, key.PSK, m.config.Private, initiator, ephemeral)
}

func (m *Machine) dropOldestBegun() {
	var (
		oldest handshakeID
		found  *begun
	)
	for id, b := range m.begun {
		if found == nil || b.at < found.at || b.at == found.at && bytes.Compare(id[:], oldest[:]) < 0 {
			oldest, found = id, b
		}
	}
	delete(m.begun, oldest)
}

// handleSecond is the joiner's side of message 2.
func (m *Machine) handleSecond(now time.Duration, from netip.AddrPort, src *source, datagram []byte) Result {
	if len(datagram) < minSecond {
		return m.junk(src)
	}
	id := handshakeID(datagram[1:5])
	b, ok := m.begun[id]
	switch {
	case !ok || now-b.at >= Lifetime:
		return m.stray()
	case b.third != nil && from == b.from && bytes.Equal(datagram, b.second):
		m.stats.Repeated++
		return Result{Reply: bytes.Clone(b.third)}
	case b.third != nil:
		return m.stray()
	case !m.mayOpen(now, src):
		return m.limited()
	}
	plain, alive, err := b.handshake.open(datagram[9:])
	if err != nil {
		if !alive {
			delete(m.begun, id)
		}
		return m.junk(src)
	}
	peer, refused := m.judgeSecond(b, from, plain)
	if refused != nil {
		delete(m.begun, id)
		return m.refuse(nil, refused)
	}
	p := payload{SeenAs: encodeAddr(from)}
	reply, err := b.finish(handshakeID(datagram[5:9]), &p)
	if err != nil {
		delete(m.begun, id)
		return m.junk(src) // the peer's keys are of low order
	}
	b.second, b.from = bytes.Clone(datagram), from
	m.dropWaiting(b.to)
	m.stats.Completed++
	return Result{Reply: bytes.Clone(reply), Done: peer}
}

// judgeSecond decides whether an opened message 2 comes from a peer.
func (m *Machine) judgeSecond(b *begun, from netip.AddrPort, plain []byte) (*Peer, *RefusedError) {
	p, err := decodeVersioned(plain)
	switch {
	case err != nil:
		return nil, &RefusedError{Addr: from, Err: ErrRecord}
	case p.Refusal != refusalNone:
		return nil, &RefusedError{Addr: from, Side: There, Version: p.Version, Err: p.Refusal.err(), Key: b.key.Number, Newest: p.Newest}
	case p.Version != protocolVersion:
		return nil, &RefusedError{Addr: from, Version: p.Version, Err: ErrVersion}
	}
	record, err := roster.Parse(m.config.Secret.Cluster, p.Record)
	if err != nil {
		return nil, &RefusedError{Addr: from, Err: ErrRecord}
	}
	if refused := m.judgeProven(b.handshake, from, record); refused != nil {
		return nil, refused
	}
	if _, cause := m.judgeNode(record.ID(), b.key); cause != nil {
		return nil, &RefusedError{Addr: from, Node: record.ID(), Err: cause, Key: b.key.Number, Newest: m.keys[0].Number}
	}
	peer := &Peer{Record: record, Addr: from, SeenAs: decodeAddr(p.SeenAs), Initiator: true, Old: b.key.Use != UseCurrent}
	held, err := roster.Parse(m.config.Secret.Cluster, p.Held)
	if err == nil && held.ID() == m.config.Record().ID() && held.Hash() != b.sent {
		peer.HeldOfUs = &held
	}
	return peer, nil
}

// judgeNode decides whether a node may be a member that shows this key.
func (m *Machine) judgeNode(id identity.NodeID, key Key) (refusal, error) {
	switch {
	case m.config.Removed(id):
		return refusalRemoved, ErrRemoved
	case !m.config.Admit(id):
		return refusalNotAllowed, ErrNotAdmitted
	case key.Use == UseNamed:
		return refusalOldSecret, ErrOldSecret
	case key.Use == UseOld && !m.config.Known(id):
		return refusalNewcomer, ErrNewcomer
	}
	return refusalNone, nil
}

// judgeProven checks the record of a peer whose static key is proven.
func (m *Machine) judgeProven(h *handshake, from netip.AddrPort, record roster.Signed) *RefusedError {
	refused := &RefusedError{Addr: from, Node: record.ID()}
	switch {
	case !h.holds(record.Record().WireGuard):
		refused.Err = ErrKey
	case record.ID() == m.config.Record().ID():
		refused.Err, refused.Twin = ErrTwin, record
	default:
		return nil
	}
	return refused
}

// finish makes message 3 and lets go of the keys.
func (b *begun) finish(to handshakeID, p *payload) ([]byte, error) {
	plain, err := p.encode()
	if err != nil {
		return nil, err
	}
	message, err := b.handshake.write(plain)
	if err != nil {
		return nil, err
	}
	b.third = append(append([]byte{TypeThird}, to[:]...), message...)
	b.handshake = nil
	return b.third, nil
}

// dropWaiting gives up the other tries at an address that has answered.
func (m *Machine) dropWaiting(to netip.AddrPort) {
	for id, b := range m.begun {
		if b.third == nil && b.to == to {
			delete(m.begun, id)
		}
	}
}

// isSelf reports whether record is of this very process.
func (m *Machine) isSelf(record roster.Signed) bool {
	own := m.config.Record()
	return record.ID() == own.ID() && record.Record().Start == own.Record().Start
}

// triedAs returns the address where the handshake with this id was begun.
func (m *Machine) triedAs(id handshakeID) netip.AddrPort {
	if b, ok := m.begun[id]; ok {
		return b.to
	}
	return netip.AddrPort{}
}

// heldOf returns the newest record held of a node if it is another than given.
func (m *Machine) heldOf(id identity.NodeID, given roster.Signed) []byte {
	held, ok := m.config.Held(id)
	if !ok || held.ID() != id || held.Hash() == given.Hash() {
		return nil
	}
	return held.Wire()
}
