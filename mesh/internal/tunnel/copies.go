package tunnel

import (
	"sync"
	"time"
)

// copyWithin is how soon after a handshake message one of the same bytes is a
// copy of it, sent on two paths at once or doubled on the way; one that was sent
// again comes later (repeatAfter).
const copyWithin = 50 * time.Millisecond

// copies tells handshake messages that come twice at once. wireguard-go takes
// them with several goroutines, checks the state of the handshake under one lock
// and sets it under another: of two copies each can pass, and then the peers
// have keys that do not fit, until the next handshake 15 s later. It is safe for
// concurrent use.
type copies struct {
	mu   sync.Mutex
	ring [32]struct {
		mac [macLen]byte // MAC1, which was checked and covers what comes before it
		at  time.Duration
	}
	next int
}

// isCopy reports whether the message was here just before, and notes it.
func (c *copies) isCopy(now time.Duration, message []byte) bool {
	mac := [macLen]byte(message[len(message)-macsLen:])
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.ring {
		if e := &c.ring[i]; e.mac == mac && now-e.at < copyWithin {
			return true
		}
	}
	e := &c.ring[c.next%len(c.ring)]
	c.next++
	e.mac, e.at = mac, now
	return false
}
