package bridge

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// close ends the session: the local side gets nothing more once it returns.
// The peer is told why, if there is a stream, in the background for as long
// as closeTimeout; wait joins that. It returns how many bytes (and controls)
// the peer has not confirmed: up to that many are lost. Only the first call
// counts, a second returns 0.
func (l *link) close(why session.CloseError) (lost int) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0
	}
	lost = l.end.Unacknowledged()
	conn := l.conn
	if conn != nil {
		l.workers.Go(func() { l.farewell(conn, why) })
	}
	l.closed, l.conn = true, nil
	if l.timer != nil {
		l.timer.Stop()
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	l.out.stop()
	return lost
}

func (l *link) farewell(conn net.Conn, why session.CloseError) {
	_ = conn.SetWriteDeadline(time.Now().Add(closeTimeout)) // also frees a writer that holds turn
	l.turn <- struct{}{}
	_, err := conn.Write(session.AppendClose(nil, why))
	<-l.turn
	if err != nil {
		l.log.Debug("peer not told of the session's end", "session", l.id, "err", err)
	}
	_ = conn.Close()
}

// protest tells the peer, if err is its fault, that nothing more of it will
// be read. It returns err.
func (l *link) protest(conn net.Conn, err error) error {
	if !errors.Is(err, session.ErrProtocol) {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	l.turn <- struct{}{}
	_, _ = conn.Write(session.AppendClose(nil, session.CloseError{Code: session.CodeProtocol, Text: err.Error()}))
	<-l.turn
	return err
}

// wait joins what close started, if the session is closed.
func (l *link) wait() {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		l.workers.Wait()
	}
}

// settled blocks until the peer has confirmed everything (true), or the
// session was closed or given up (false). Nothing may be sent meanwhile.
func (l *link) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && l.end.Unacknowledged() > 0 && !l.givenUp {
		l.changed.Wait()
	}
	return l.end.Unacknowledged() == 0 && !l.closed
}

// giveUp makes settled return.
func (l *link) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.givenUp = true
	l.changed.Broadcast()
}

// view returns the counters and whether there is a stream.
func (l *link) view() (stats linkStats, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats = l.stats
	stats.trip = l.end.RoundTrip()
	return stats, l.conn != nil
}

// next is the offset of the byte that this side expects, for OPEN and ACCEPT.
// The present stream carries nothing more: what still came on it would make
// the answer wrong.
func (l *link) next() uint64 {
	l.mu.Lock()
	old, next := l.conn, l.end.Next()
	if l.conn = nil; old != nil {
		l.end.Disconnect()
	}
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return next
}

// setMaxStale sets the age beyond which bytes are not sent at a resume; 0: any
// age.
func (l *link) setMaxStale(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end.SetMaxStale(age)
}

// drained blocks until the peer has confirmed all that was sent before the
// call: delivered to the driver, the PTY, the client. errLinkClosed: the
// session ended before; ctx ends the wait.
func (l *link) drained(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for until := l.end.Sent(); ; {
		switch {
		case l.end.Acknowledged() >= until:
			return nil
		case l.closed:
			return errLinkClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		l.changed.Wait()
	}
}

// drop drops what waits here as bits say, and tells the peer to.
func (l *link) drop(bits uint64) error {
	if bits&session.PurgeReceive != 0 {
		l.out.discard()
	}
	if bits&session.PurgeTransmit != 0 {
		l.mu.Lock()
		l.purges++ // what waits in send
		l.changed.Broadcast()
		l.mu.Unlock()
	}
	return l.control(session.Control{Kind: session.KindPurge, Bits: bits})
}

// resumes counts a resume and returns how many there were.
func (l *link) resumes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.resumed++
	return l.stats.resumed
}
