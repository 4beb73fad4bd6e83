package kubespan

import (
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// silentAfter is how long a peer may not be heard before it counts as silent:
// a session lives 180 s, a handshake takes up to 5 s, is tried for 90 s
// (Talos's PeerDownInterval).
const silentAfter = (180 + 5 + 90) * time.Second

// evidence is what was last read of a peer. The handshake is wall clock in
// nanoseconds and only ever compared for being the same.
type evidence struct {
	handshake int64
	rx        uint64
	at        time.Duration // of the last change, or of the first look
	heard     bool
}

// judge says which peers live. The zero value knows nobody. It is not safe for
// concurrent use.
type judge struct {
	peers map[identity.WireGuardKey]evidence
}

// look judges peers at a moment of the monotonic clock; verdicts are in the
// order of the samples. Peers that are not among them are forgotten.
func (j *judge) look(now time.Duration, samples []sample) []Liveness {
	next := make(map[identity.WireGuardKey]evidence, len(samples))
	verdicts := make([]Liveness, len(samples))
	for i, s := range samples {
		e, known := j.peers[s.key]
		switch {
		case !known || s.rx < e.rx || s.handshake == 0 && e.handshake != 0:
			// Counters fall only when the peer was removed and set up again.
			e = evidence{at: now}
		case s.rx > e.rx || s.handshake != e.handshake:
			e.at, e.heard = now, true
		}
		e.handshake, e.rx = s.handshake, s.rx
		next[s.key] = e
		switch {
		case now-e.at >= silentAfter:
			verdicts[i] = Silent
		case e.heard:
			verdicts[i] = Alive
		}
	}
	j.peers = next
	return verdicts
}
