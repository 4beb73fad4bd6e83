package tunnel

import (
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/conn"
)

// cookies meets the demands for cookies that wireguard-go makes without need.
//
// Under load a responder wants a cookie in each handshake message (white paper,
// section 5.3): it drops the message and sends the cookie to where it came from.
// wireguard-go keeps the end of the load, a second ahead, by the wall clock.
// After a step back by years it takes itself for loaded until that time comes
// again: every handshake takes the 5 s until WireGuard's next try, or 10 s with
// both sides in that state. A message that came through a relay has no address
// that a cookie could be sent to, so its sender would never get in.
//
// A cookie proves that an address is not forged. Where there is no load, or no
// address, that proves nothing worth a wait: the bind opens the cookie itself,
// completes the message and hands it over again. With a load, cookies go out as
// WireGuard means them to.
//
// It is safe for concurrent use.
type cookies struct {
	key atomic.Pointer[[32]byte] // of our cookie replies

	mu   sync.Mutex
	seen [handshakesSeen]handshake // a ring: the handshake messages given to wireguard-go last
	next int
}

const (
	// handshakesSeen messages within handshakesIn are a load.
	handshakesSeen = 32
	handshakesIn   = time.Second

	mac1At = macsLen // before the end
	mac2At = macLen
)

// handshake is a handshake message on its way to wireguard-go.
type handshake struct {
	message [initiationLen]byte // the longer of both kinds
	n       int                 // its length; 0: none
	source  conn.Endpoint
	at      time.Duration
}

// setKey makes the key that of our WireGuard key: HASH("cookie--" ‖ public key),
// white paper section 5.4.7.
func (c *cookies) setKey(public [32]byte) {
	sum := blake2s.Sum256(append([]byte("cookie--"), public[:]...))
	c.key.Store(&sum)
}

// noteHandshake remembers a message that is given to wireguard-go, if it is one
// of a handshake.
func (b *bind) noteHandshake(message []byte, source conn.Endpoint) {
	if message[0] == messageInitiation || message[0] == messageResponse {
		b.cookies.note(b.t.now(), message, source)
	}
}

func (c *cookies) note(now time.Duration, message []byte, source conn.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.seen[c.next]
	c.next = (c.next + 1) % len(c.seen)
	*h = handshake{n: len(message), source: source, at: now}
	copy(h.message[:], message)
}

// meet takes a cookie reply that wireguard-go has made. If the cookie is not to
// be sent, it returns the message that it is for, with the cookie's MAC2, and
// where that came from; ok tells.
func (c *cookies) meet(now time.Duration, reply []byte) (message []byte, source conn.Endpoint, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	loaded := c.seen[c.next].n > 0 && now-c.seen[c.next].at < handshakesIn // the oldest
	for i := range c.seen {
		h := &c.seen[i]
		// A cookie reply names the message by its sender index.
		if h.n == 0 || binary.LittleEndian.Uint32(h.message[4:8]) != binary.LittleEndian.Uint32(reply[4:8]) {
			continue
		}
		if loaded && h.source != conn.Endpoint(relaySource) {
			return nil, nil, false
		}
		message = append(message, h.message[:h.n]...)
		if !c.complete(message, reply) {
			continue // another member's message with this index
		}
		h.n = 0 // once
		return message, h.source, true
	}
	return nil, nil, false
}

// complete puts MAC2 on a message that has MAC1 only; false: the cookie is not
// for it. A cookie reply is type (4), receiver (4), nonce (24), sealed cookie
// (32).
func (c *cookies) complete(message, reply []byte) bool {
	aead, err := chacha20poly1305.NewX(c.key.Load()[:])
	if err != nil {
		return false // a key of 32 bytes is always taken
	}
	mac1 := message[len(message)-mac1At : len(message)-mac2At]
	cookie, err := aead.Open(nil, reply[8:32], reply[32:cookieLen], mac1)
	if err != nil {
		return false
	}
	var mac hash.Hash
	if mac, err = blake2s.New128(cookie); err != nil {
		return false // as above
	}
	copy(message[len(message)-mac2At:], sum(mac, message[:len(message)-mac2At]))
	return true
}

// meetCookie takes a message for a source from wireguard-go and reports whether
// it is a demand for a cookie that has been met here.
func (b *bind) meetCookie(message []byte) bool {
	if message[0] != messageCookie || len(message) != cookieLen {
		return false
	}
	again, source, ok := b.cookies.meet(b.t.now(), message)
	if !ok {
		return false
	}
	b.t.stats.CookiesMet.Add(1)
	b.queue(again, source)
	return true
}
