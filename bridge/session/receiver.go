package session

import (
	"fmt"
	"time"
)

// When a delivery is acknowledged on its own, if no data that goes the other
// way takes the ACK along earlier.
const (
	// ackBytes keeps a bulk sender going: a sixteenth of the default window.
	// It is a fourth of the smaller side's window, if that is less.
	ackBytes = 16384
	// ackDelay is long enough for a device or application to answer, so that
	// a request and its answer cost two packets and not four, and short
	// against every hold.
	ackDelay = 20 * time.Millisecond
)

// receiver keeps the numbers of one direction.
//
//	acked ≤ delivered ≤ next
type receiver struct {
	window                 int
	ackAfter               uint64 // deliveries that are acknowledged at once
	acked, delivered, next uint64
	waiting                bool
	since                  time.Duration // of the first delivery not acked, if waiting
}

// take checks length places at offset against what is expected and returns
// how many of them, from the front, were taken before.
func (r *receiver) take(offset uint64, length int) (known int, err error) {
	if offset > r.next {
		return 0, fmt.Errorf("receive offset %d: %w: %d is next", offset, ErrProtocol, r.next)
	}
	behind := r.next - offset
	if behind >= uint64(length) {
		return length, nil
	}
	next := offset + uint64(length)
	if next < offset || next > r.delivered+uint64(r.window) {
		return 0, fmt.Errorf("receive offset %d: %w: %d places pass the window of %d from %d",
			offset, ErrProtocol, length, r.window, r.delivered)
	}
	r.next = next
	return int(behind), nil
}

func (r *receiver) deliver(now time.Duration, n int) {
	r.delivered += uint64(n)
	if r.delivered > r.next {
		panic("session: more delivered than received")
	}
	if !r.waiting && n > 0 {
		r.waiting, r.since = true, now
	}
}

// due reports whether an ACK has to go now.
func (r *receiver) due(now time.Duration) bool {
	return r.waiting && (now >= r.since+ackDelay || r.delivered-r.acked >= r.ackAfter)
}

// frame appends the ACK.
func (r *receiver) frame(dst []byte) []byte {
	r.acked, r.waiting = r.delivered, false
	return appendNumber(dst, TypeAck, r.acked)
}
