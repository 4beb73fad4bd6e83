package link

import (
	"log/slog"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// Park lays the session to rest: the stream is gone, the local side gets
// nothing more, and what the peer has not confirmed is in saved, with the age
// of the link. false: it was closed before.
//
// Each step comes before the next for a reason: the reader of the stream may be
// handing bytes over, and the outlet may be about to count them; saved must
// know of both.
func (l *Link) Park() (saved []byte, age time.Duration, ok bool) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, 0, false
	}
	conn := l.conn
	l.conn = nil
	l.end.Disconnect()
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	l.reading <- struct{}{}
	defer func() { <-l.reading }()
	controls := l.out.park()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, 0, false
	}
	l.closed = true
	l.stats.Received -= uint64(l.end.Undelivered() - controls) // they will come again
	if l.timer != nil {
		l.timer.Stop()
	}
	l.changed.Broadcast()
	return l.end.Save(), l.now(), true
}

// park is stop, but controls that no bytes stand before are applied first: once
// they are, what was handed over is what came first, whatever a purge has
// dropped, and the peer can be asked for the rest by its offset.
//
// It returns how many places controls have among what is left.
func (o *outlet) park() (controls int) {
	o.mu.Lock()
	o.parked = true
	waiting := o.draining
	o.mu.Unlock()
	if waiting {
		_ = o.to.SetWriteDeadline(time.Unix(1, 0)) // long ago: Write returns at once
		o.drained.Wait()
	}
	o.stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.places
}

// Restore returns a link that goes on where one that was parked left: with its
// end of the session, and as old as it would be.
func Restore(id session.ID, end *session.End, age time.Duration, to Sink, log *slog.Logger) *Link {
	l := New(id, 0, to, log)
	l.began, l.end = time.Now().Add(-age), end
	return l
}
