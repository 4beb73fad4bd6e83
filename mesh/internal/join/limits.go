package join

import "time"

const (
	// FirstLen is the exact length of the first datagram, and the longest of
	// the second, in bytes: it passes any IPv6 path (1280 - 40 - 8 = 1232).
	FirstLen = 1200

	// Lifetime is how long either side waits for the next message of a
	// handshake.
	Lifetime = 5 * time.Second

	// maxPending bounds the handshakes that wait for a message 3, each of
	// about 3 kB. answerBurst + answerRate·Lifetime = 56 + 40·5 = 256: the
	// rate limit alone keeps within it.
	maxPending = 256

	// maxBegun bounds the handshakes that this node has begun; beyond, the
	// oldest gives way.
	maxBegun = 64

	// maxFailures is how often a message for one handshake may fail to open
	// before the handshake is given up: each failure costs up to three X25519.
	maxFailures = 8

	// recentFirst bounds the remembered ephemeral keys of answered first
	// messages, 16 bytes each. Only holders of the secret add to it: at the
	// full answerRate it reaches back 8192/40 = 204 s, in a mesh at rest years.
	recentFirst = 8192

	// maxSources bounds the sources (an IPv4 address, an IPv6 /64) whose rates
	// and failures are kept; beyond, the one idle for longest is forgotten.
	maxSources = 1024
)

// Rate limits, per second and at once. Trying to open a datagram costs a few
// microseconds (message 1 is symmetric cryptography only), an answer about
// four X25519 and a signature check, 1 ms on a thin client: 40/s are 4 % of one
// core there. Junk never spends what genuine joiners need: answers are counted
// only after a message has opened.
const (
	openRate, openBurst                   = 4000, 4000
	openRatePerSource, openBurstPerSource = 200, 400

	answerRate, answerBurst                   = 40, 56
	answerRatePerSource, answerBurstPerSource = 8, 24 // a site behind one address
)

// bucket is a token bucket (a meter of spent tokens). The zero value is full.
type bucket struct {
	spent float64 // tokens in use, at last
	last  time.Duration
}

// take spends a token if one is there. rate is in tokens per second.
func (b *bucket) take(now time.Duration, rate, burst float64) bool {
	if now > b.last {
		b.spent = max(0, b.spent-(now-b.last).Seconds()*rate)
		b.last = now
	}
	if b.spent+1 > burst {
		return false
	}
	b.spent++
	return true
}
