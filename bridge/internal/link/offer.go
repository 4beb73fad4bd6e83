package link

import "github.com/serialspan/serialspan/bridge/session"

// Offer takes what fits of p, writes it to the stream on another goroutine,
// and returns how much that was. It never blocks.
func (l *Link) Offer(p []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p)
	}
	n := l.end.Write(l.now(), p[:min(len(p), l.roomLocked())])
	l.stats.Sent += uint64(n)
	if n > 0 {
		l.kickLocked()
	}
	return n
}

// OfferControl is Offer for a control; it reports whether there was room.
func (l *Link) OfferControl(c session.Control) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	ok, err := l.end.Control(c)
	if ok {
		l.kickLocked()
	}
	return ok || err != nil
}

// Room is how many bytes Offer takes now.
func (l *Link) Room() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roomLocked()
}

// controlRoom is kept free of data, so that controls find a place while the
// other side takes no bytes: a purge is there to end that.
const controlRoom = 64

// roomLocked is how many bytes of data fit. mu is held.
func (l *Link) roomLocked() int { return max(0, l.end.Room()-l.reserveLocked()) }

// reserveLocked is what is kept free for controls. mu is held.
func (l *Link) reserveLocked() int { return min(controlRoom, int(l.end.Window()/8)) }

// Expect is told how much the peer takes, before Connect: what is sent until then
// waits in the window.
func (l *Link) Expect(window uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end.Expect(window)
}

// Waiting is how many bytes of the peer are queued for the local side, which
// does not keep up; what it is just being handed is not among them.
func (l *Link) Waiting() int { return l.out.waiting() }

// IsWhole reports whether what the local side has taken ends where a write of
// the peer does.
func (l *Link) IsWhole() bool { return l.out.isWhole() }

// Discard drops the bytes that the local side has not taken yet; for the peer
// they are delivered.
func (l *Link) Discard() { l.out.discard() }
