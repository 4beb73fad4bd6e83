package session

import (
	"math"
	"time"
)

// What belongs together: a frame of the device's protocol is written in one
// go, or read from the driver in a few pieces.
const (
	// burstPause between two writes ends a burst: above the 16 ms of an FTDI
	// chip's latency timer.
	burstPause = 20 * time.Millisecond
	// burstMost bounds a burst, for a sender that never pauses: what is
	// dropped of it is dropped in pieces of this length.
	burstMost = 250 * time.Millisecond
	// maxBursts bounds the list; beyond it the last burst grows.
	maxBursts = 1024
)

// burst is bytes that were written with no pause between them; the controls
// among them have their places in it.
type burst struct {
	span
	first, last time.Duration // of its writes
}

// span is a range of places: from ≤ place < until.
type span struct{ from, until uint64 }

// noteBurst counts n places that were written now, which end at s.end.
func (s *sender) noteBurst(now time.Duration, n int) {
	if s.stale <= 0 || n == 0 {
		return
	}
	if i := len(s.bursts) - 1; i >= 0 {
		b := &s.bursts[i]
		if now-b.last <= burstPause && now-b.first <= burstMost || len(s.bursts) >= maxBursts {
			b.until, b.last = s.end, now
			return
		}
	}
	s.bursts = append(s.bursts, burst{span{s.end - uint64(n), s.end}, now, now})
}

// expire gives up the bursts that the receiver, who expects offset, has
// nothing of and that are older than allowed, and returns how many bytes that
// is. Their places stay: frame sends a SKIP for them. Controls among them are
// kept. A burst that the receiver has a part of is completed, however old it
// is: half a command is worse than a late one.
func (s *sender) expire(now time.Duration, offset uint64) (dropped int) {
	first := 0
	for first < len(s.bursts) && s.bursts[first].from < offset {
		first++
	}
	last := first
	for last < len(s.bursts) && now-s.bursts[last].last > s.stale {
		b := s.bursts[last].span
		dropped += int(b.until-b.from) - s.controlsIn(b)
		s.skips = append(s.skips, b)
		last++
	}
	s.bursts = append(s.bursts[:first], s.bursts[last:]...)
	return dropped
}

func (s *sender) controlsIn(b span) (n int) {
	for _, c := range s.controls {
		if b.from <= c.offset && c.offset < b.until {
			n++
		}
	}
	return n
}

// skipped returns how many places from s.next on are given up, or where the
// next that are begin; limit bounds both.
func (s *sender) skipped(limit uint64) (n, until uint64) {
	for _, k := range s.skips {
		switch {
		case k.until <= s.next:
		case k.from <= s.next:
			n = min(k.until, limit, s.next+math.MaxUint32) - s.next
			return n, limit
		default:
			return 0, min(k.from, limit)
		}
	}
	return 0, limit
}

// forget drops what is known of places before base.
func (s *sender) forget() {
	n := 0
	for n < len(s.writes) && s.writes[n] <= s.base {
		n++
	}
	if n > 0 {
		s.writes = append(s.writes[:0], s.writes[n:]...)
	}
	n = 0
	for n < len(s.bursts) && s.bursts[n].until <= s.base {
		n++
	}
	if n > 0 {
		s.bursts = append(s.bursts[:0], s.bursts[n:]...)
	}
	n = 0
	for n < len(s.skips) && s.skips[n].until <= s.base {
		n++
	}
	if n > 0 {
		s.skips = append(s.skips[:0], s.skips[n:]...)
	}
}
