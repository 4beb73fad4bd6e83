package probe

// window accepts each counter once (the sliding window of RFC 6479): probes go
// out on several paths at a time and may arrive out of order.
type window struct {
	highest uint64
	seen    uint64 // bit i: highest-i was accepted
}

// accept reports whether counter is new, and remembers it. Counters more than
// 63 below the highest count as seen; 0 is never used.
func (w *window) accept(counter uint64) bool {
	switch {
	case counter == 0:
		return false
	case counter > w.highest:
		if shift := counter - w.highest; shift < 64 {
			w.seen = w.seen<<shift | 1
		} else {
			w.seen = 1
		}
		w.highest = counter
		return true
	case w.highest-counter > 63:
		return false
	}
	bit := uint64(1) << (w.highest - counter)
	if w.seen&bit != 0 {
		return false
	}
	w.seen |= bit
	return true
}
