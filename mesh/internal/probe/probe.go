// Package probe seals and opens the probes by which members try the addresses
// of each other. Only the answer to a probe creates or moves a path (DESIGN
// section 6), so a probe is authenticated, fresh, and carries back a token
// that only its receiver could have read.
//
// Wire layout, 69 bytes:
//
//	 0  1  type, 8
//	 1  8  sender: SHA-256("serialspan probe sender v1" ‖ 0x00 ‖ sender's WireGuard key)[0:8]
//	 9  8  counter, big endian; counts the probes of this sender to this receiver from 1
//	17 52  ChaCha20-Poly1305 (RFC 8439) over the 36 bytes below, nonce = 0^4 ‖ counter,
//	       additional data = bytes 0 to 16
//
//	 0  1  kind: 1 request, 2 answer
//	 1  1  flags: 1 = the receiver should initiate a WireGuard handshake,
//	       2 = the answer should be as large a datagram as the request
//	 2  8  token: chosen by the requester, returned in the answer
//	10 16  address that the sender saw the receiver's request come from, in
//	       IPv6 form; all zero in a request
//	26  2  its port
//	28  8  the sender's wall clock in an answer, nanoseconds since 1970 in
//	       two's complement; zero in a request. It is shown to people as skew.
//
// A sealed probe may be followed by bytes without a meaning, to try how large a
// datagram gets through (Pad).
//
// The key of one direction is HKDF-SHA256(X25519 of both WireGuard keys, salt =
// sender's ‖ receiver's public key, info "serialspan probe key v1"). WireGuard
// keys live for one start of the agent, so counters start at 1 without a disk.
// The sender field tells an outsider no more than WireGuard's own index does.
//
// The package is values and pure state; a Pair must not be used concurrently.
package probe

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// Type is the first byte of a probe.
	Type = 8
	// Len is the length of every probe datagram without padding, bytes.
	Len = headerLen + bodyLen + chacha20poly1305.Overhead

	headerLen = 1 + 8 + 8
	bodyLen   = 1 + 1 + 8 + 16 + 2 + 8

	flagInitiate = 1
	flagWhole    = 2
)

// Errors of Open. A datagram that does not open says nothing about who sent it.
var (
	ErrMalformed = errors.New("malformed probe")
	ErrForged    = errors.New("probe does not open")
	ErrReplayed  = errors.New("probe seen before")
)

// Kind tells a request from its answer.
type Kind uint8

// The kinds of probe.
const (
	Request Kind = 1
	Answer  Kind = 2
)

// Sender is how a probe names its sender on the wire.
type Sender [8]byte

// SenderOf returns the name of the member that has this WireGuard key now.
func SenderOf(key identity.WireGuardKey) Sender {
	sum := sha256.Sum256(append([]byte("serialspan probe sender v1\x00"), key[:]...))
	return Sender(sum[:8])
}

// SenderIn returns the sender field of a datagram; ok is false where the
// datagram is no probe at all.
func SenderIn(datagram []byte) (s Sender, ok bool) {
	if len(datagram) != Len || datagram[0] != Type {
		return Sender{}, false
	}
	return Sender(datagram[1:9]), true
}

// Probe is what a probe says.
type Probe struct {
	Kind     Kind
	Initiate bool           // please initiate a WireGuard handshake with me
	Whole    bool           // request: please answer with a datagram as large as this one
	Token    uint64         // chosen by the requester
	Seen     netip.AddrPort // answer: where the request came from
	Wall     int64          // answer: the sender's wall clock, ns since 1970
}

// Pair is the state between us and one peer: a key and a counter for each
// direction. Make a new one when either WireGuard key changes.
type Pair struct {
	sender Sender // ours
	peer   Sender
	seal   cipher.AEAD
	open   cipher.AEAD
	sent   uint64
	window window
}

// NewPair derives the keys between our private key and a peer's public one. It
// fails for a peer key of low order.
func NewPair(private identity.WireGuardPrivate, peer identity.WireGuardKey) (*Pair, error) {
	secret, err := private.SharedSecret(peer)
	if err != nil {
		return nil, err
	}
	own := private.Public()
	p := &Pair{sender: SenderOf(own), peer: SenderOf(peer)}
	if p.seal, err = directionKey(secret, own, peer); err != nil {
		return nil, err
	}
	p.open, err = directionKey(secret, peer, own)
	return p, err
}

func directionKey(secret [32]byte, from, to identity.WireGuardKey) (cipher.AEAD, error) {
	salt := append(append(make([]byte, 0, 64), from[:]...), to[:]...)
	key, err := hkdf.Key(sha256.New, secret[:], salt, "serialspan probe key v1", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive probe key: %w", err)
	}
	return chacha20poly1305.New(key)
}

// Pad returns a sealed probe as a datagram of size bytes, for a receiver who cuts
// it to Len.
func Pad(datagram []byte, size int) []byte {
	return append(datagram, make([]byte, max(0, size-len(datagram)))...)
}

// Peer returns how the peer names itself on the wire.
func (p *Pair) Peer() Sender { return p.peer }

// Seal returns the datagram of a probe, Len bytes.
func (p *Pair) Seal(pr Probe) []byte {
	p.sent++
	out := make([]byte, headerLen, Len)
	out[0] = Type
	copy(out[1:9], p.sender[:])
	binary.BigEndian.PutUint64(out[9:17], p.sent)

	var body [bodyLen]byte
	body[0] = byte(pr.Kind)
	if pr.Initiate {
		body[1] |= flagInitiate
	}
	if pr.Whole {
		body[1] |= flagWhole
	}
	binary.BigEndian.PutUint64(body[2:10], pr.Token)
	if pr.Seen.IsValid() {
		a := pr.Seen.Addr().As16()
		copy(body[10:26], a[:])
		binary.BigEndian.PutUint16(body[26:28], pr.Seen.Port())
	}
	binary.BigEndian.PutUint64(body[28:36], uint64(pr.Wall))
	return p.seal.Seal(out, nonce(out[9:17]), body[:], out[:headerLen])
}

// Open reads a datagram of the peer. The errors are ErrMalformed, ErrForged
// and ErrReplayed; the state moves only when there is none. Unknown flags are
// ignored, they are room for growth.
func (p *Pair) Open(datagram []byte) (Probe, error) {
	sender, ok := SenderIn(datagram)
	if !ok || sender != p.peer {
		return Probe{}, ErrMalformed
	}
	var buf [bodyLen]byte
	body, err := p.open.Open(buf[:0], nonce(datagram[9:17]), datagram[headerLen:], datagram[:headerLen])
	if err != nil {
		return Probe{}, ErrForged
	}
	pr := Probe{
		Kind:     Kind(body[0]),
		Initiate: body[1]&flagInitiate != 0,
		Whole:    body[1]&flagWhole != 0,
		Token:    binary.BigEndian.Uint64(body[2:10]),
		Wall:     int64(binary.BigEndian.Uint64(body[28:36])),
	}
	if addr := netip.AddrFrom16([16]byte(body[10:26])).Unmap(); !addr.IsUnspecified() {
		pr.Seen = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(body[26:28]))
	}
	if pr.Kind != Request && pr.Kind != Answer {
		return Probe{}, ErrMalformed
	}
	if !p.window.accept(binary.BigEndian.Uint64(datagram[9:17])) {
		return Probe{}, ErrReplayed
	}
	return pr, nil
}

func nonce(counter []byte) []byte {
	return append(make([]byte, 4, 12), counter...)
}
