package link

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// Close ends the session: the local side gets nothing more once it returns.
// The peer is told why, if there is a stream, in the background for as long
// as closeTimeout; Wait joins that. It returns how many bytes (and controls)
// the peer has not confirmed: up to that many are lost. Only the first call
// counts, a second returns 0.
func (l *Link) Close(why session.CloseError) (lost int) {
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

func (l *Link) farewell(conn net.Conn, why session.CloseError) {
	_ = conn.SetWriteDeadline(time.Now().Add(closeTimeout)) // also frees a writer that holds turn
	l.turn <- struct{}{}
	_, err := conn.Write(session.AppendClose(nil, why))
	<-l.turn
	if err != nil {
		l.log.Debug("peer not told of the session's end", "session", l.ID, "err", err)
	}
	_ = conn.Close()
}

// protest tells the peer, if err is its fault, that nothing more of it will
// be read. It returns err.
func (l *Link) protest(conn net.Conn, err error) error {
	if !errors.Is(err, session.ErrProtocol) {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	l.turn <- struct{}{}
	_, _ = conn.Write(session.AppendClose(nil, session.CloseError{Code: session.CodeProtocol, Text: err.Error()}))
	<-l.turn
	return err
}

// Wait joins what Close started, if the session is closed.
func (l *Link) Wait() {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		l.workers.Wait()
	}
}

// Settled blocks until the peer has confirmed everything (true), or the
// session was closed or given up (false). Nothing may be sent meanwhile.
func (l *Link) Settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && l.end.Unacknowledged() > 0 && !l.givenUp {
		l.changed.Wait()
	}
	return l.end.Unacknowledged() == 0 && !l.closed
}

// GiveUp makes Settled return.
func (l *Link) GiveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.givenUp = true
	l.changed.Broadcast()
}

// View returns the counters and whether there is a stream.
func (l *Link) View() (stats Stats, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats = l.stats
	stats.Trip = l.end.RoundTrip()
	return stats, l.conn != nil
}

// Next is the offset of the byte that this side expects, for OPEN and ACCEPT.
// The present stream carries nothing more: what still came on it would make
// the answer wrong.
func (l *Link) Next() uint64 {
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

// SetMaxStale sets the age beyond which bytes are not sent at a resume; 0: any
// age.
func (l *Link) SetMaxStale(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end.SetMaxStale(age)
}

// Drained blocks until the peer has confirmed all that was sent before the
// call: delivered to the driver, the PTY, the client. ErrClosed: the
// session ended before; ctx ends the wait.
func (l *Link) Drained(ctx context.Context) error {
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
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		l.changed.Wait()
	}
}

// Drop drops what waits here as bits say, and tells the peer to.
func (l *Link) Drop(bits uint64) error {
	if bits&session.PurgeReceive != 0 {
		l.Discard()
	}
	if bits&session.PurgeTransmit != 0 {
		l.mu.Lock()
		l.purges++ // what waits in Send
		l.changed.Broadcast()
		l.mu.Unlock()
	}
	return l.Control(session.Control{Kind: session.KindPurge, Bits: bits})
}

// Resumes counts a resume and returns how many there were.
func (l *Link) Resumes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Resumed++
	return l.stats.Resumed
}

// Refuse tells the peer why and returns err.
func Refuse(conn net.Conn, why session.CloseError, err error) error {
	_ = conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	_, _ = conn.Write(session.AppendClose(nil, why))
	return err
}
