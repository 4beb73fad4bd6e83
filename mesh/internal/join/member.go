package join

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/roster"
)

// minThird is the length of the shortest third message: type, id, sealed s,
// sealed empty payload.
const minThird = 1 + 4 + (keyLen + tagLen) + tagLen

// pending is a handshake that a joiner began and this node answered.
//
//	waiting for message 3 ──▶ done (repeats are ignored) ──▶ forgotten after Lifetime
type pending struct {
	at        time.Duration
	record    roster.Signed
	key       Key
	handshake *handshake        // nil when done
	third     [sha256.Size]byte // when done: hash of message 3
}

// handleFirst is the member's side of message 1.
func (m *Machine) handleFirst(now time.Duration, from netip.AddrPort, src *source, datagram []byte) Result {
	if len(datagram) != FirstLen {
		return m.junk(src)
	}
	id := handshakeID(datagram[1:5])
	// The ephemeral key cannot be altered without failing to open, and half of
	// it (128 bits) is enough to know it again.
	ephemeral := [16]byte(datagram[5:21])
	switch {
	case m.firsts.has(ephemeral):
		m.stats.Replayed++
		return Result{}
	case !m.mayOpen(now, src):
		return m.limited()
	}
	h, key, plain, err := m.openFirst(datagram[5:])
	switch {
	case err != nil:
		return m.junk(src)
	case !m.mayAnswer(now, src):
		return m.limited()
	}
	m.firsts.use(ephemeral)
	return m.answerFirst(now, from, src, id, h, key, plain)
}

// answerFirst decides about a message 1 that has opened.
func (m *Machine) answerFirst(now time.Duration, from netip.AddrPort, src *source, id handshakeID, h *handshake, key Key, plain []byte) Result {
	p, err := decodeVersioned(plain)
	if err != nil {
		return m.refuse(nil, &RefusedError{Addr: from, Err: ErrRecord})
	}
	if p.Version != protocolVersion {
		return m.answerRefusal(h, id, refusalVersion, &RefusedError{Addr: from, Version: p.Version, Err: ErrVersion})
	}
	record, err := roster.Parse(m.config.Secret.Cluster, p.Record)
	if err != nil {
		return m.refuse(nil, &RefusedError{Addr: from, Err: ErrRecord})
	}
	if m.isSelf(record) {
		return m.refuse(nil, &RefusedError{Addr: m.triedAs(id), Node: record.ID(), Err: ErrSelf})
	}
	if code, cause := m.judgeNode(record.ID(), key); cause != nil {
		return m.answerRefusal(h, id, code, &RefusedError{Addr: from, Node: record.ID(), Err: cause, Key: key.Number, Newest: m.keys[0].Number})
	}
	own, ok := m.ownRecord()
	if !ok {
		return m.refuse(nil, &RefusedError{Addr: from, Node: record.ID(), Err: ErrOwnRecord})
	}
	if m.expirePending(now); len(m.pending) >= maxPending {
		return m.limited()
	}
	var ourID handshakeID
	for {
		if m.random(ourID[:]) != nil {
			return m.limited()
		}
		if _, taken := m.pending[ourID]; !taken {
			break
		}
	}
	reply, err := second(h, id, ourID, &payload{
		Version: protocolVersion,
		Record:  own.Wire(),
		SeenAs:  encodeAddr(from),
		Held:    m.heldOf(record.ID(), record),
	})
	if err != nil {
		return m.junk(src) // the ephemeral key is of low order
	}
	m.pending[ourID] = &pending{at: now, record: record, key: key, handshake: h}
	m.stats.Answered++
	return Result{Reply: reply}
}

// answerRefusal tells a holder of the secret why it is refused, and nothing
// else about this node.
func (m *Machine) answerRefusal(h *handshake, id handshakeID, code refusal, refused *RefusedError) Result {
	told := payload{Version: protocolVersion, Refusal: code}
	if code == refusalOldSecret || code == refusalNewcomer {
		told.Newest = refused.Newest
	}
	reply, err := second(h, id, handshakeID{}, &told)
	if err != nil {
		return m.refuse(nil, refused)
	}
	m.stats.Answered++
	return m.refuse(reply, refused)
}

// second makes message 2, at most 1 + 8 + 32 + 48 + 16 + (23 + 2·454) = 1036
// bytes.
func second(h *handshake, theirs, ours handshakeID, p *payload) ([]byte, error) {
	plain, err := p.encode()
	if err != nil {
		return nil, err
	}
	message, err := h.answer(plain)
	if err != nil {
		return nil, err
	}
	datagram := append([]byte{TypeSecond}, theirs[:]...)
	datagram = append(datagram, ours[:]...)
	return append(datagram, message...), nil
}

// handleThird is the member's side of message 3.
func (m *Machine) handleThird(now time.Duration, from netip.AddrPort, src *source, datagram []byte) Result {
	if len(datagram) < minThird {
		return m.junk(src)
	}
	id := handshakeID(datagram[1:5])
	p, ok := m.pending[id]
	switch {
	case !ok || now-p.at >= Lifetime:
		return m.stray()
	case p.handshake == nil && p.third == sha256.Sum256(datagram):
		m.stats.Repeated++
		return Result{}
	case p.handshake == nil:
		return m.stray()
	case !m.mayOpen(now, src):
		return m.limited()
	}
	plain, alive, err := p.handshake.open(datagram[5:])
	if err != nil {
		if !alive {
			delete(m.pending, id)
		}
		return m.junk(src)
	}
	told, err := decodePayload(plain)
	refused := m.judgeProven(p.handshake, from, p.record)
	if err != nil {
		refused = &RefusedError{Addr: from, Node: p.record.ID(), Err: ErrRecord}
	}
	if refused != nil {
		delete(m.pending, id)
		return m.refuse(nil, refused)
	}
	p.handshake, p.third = nil, sha256.Sum256(datagram)
	m.stats.Completed++
	return Result{Done: &Peer{Record: p.record, Addr: from, SeenAs: decodeAddr(told.SeenAs), Old: p.key.Use != UseCurrent}}
}
