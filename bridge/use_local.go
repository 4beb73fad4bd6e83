package bridge

import (
	"context"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// session waits for one and returns it, or errLinkClosed when the use is over.
func (u *use) session() (*link, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.link == nil && !u.over {
		u.changed.Wait()
	}
	if u.over {
		return nil, errLinkClosed
	}
	return u.link, nil
}

// send takes all of p from the application. It blocks until there was room;
// errLinkClosed when the use is over. What a session took and could not
// deliver before it was lost is not sent again.
func (u *use) send(p []byte) error {
	for len(p) > 0 {
		l, err := u.session()
		if err != nil {
			return err
		}
		n, _ := l.send(p) // a closed session takes less, the next the rest
		p = p[n:]
	}
	return nil
}

// setLine asks for line settings from here on. Framing that a PTY cannot
// express stays as the device has it.
func (u *use) setLine(s line.Settings) {
	if _, err := u.session(); err != nil {
		return
	}
	u.mu.Lock()
	if !u.inForce.IsZero() {
		s.DataBits, s.Parity = u.inForce.DataBits, u.inForce.Parity
		if s.StopBits != line.StopOne {
			s.StopBits = line.StopTwo
			if s.DataBits == 5 {
				s.StopBits = line.StopOneAndHalf
			}
		}
	}
	u.line = s.String()
	u.inForce = s
	u.mu.Unlock()
	u.control(session.Control{Kind: session.KindLine, Line: s.String()})
}

// purge drops what waits for the application and tells the owner.
func (u *use) purge(bits uint64) {
	if l, err := u.session(); err == nil && bits&session.PurgeReceive != 0 {
		l.out.discard()
	}
	u.control(session.Control{Kind: session.KindPurge, Bits: bits})
}

// control sends c on the present session; on a later one it would be out of
// place, and OPEN carries the line settings.
func (u *use) control(c session.Control) {
	if l, err := u.session(); err == nil {
		_ = l.control(c) // fails with the session only
	}
}

// finish ends the use after the application closed: what it wrote is given
// time to be delivered. It returns when the use is over.
func (u *use) finish(limit time.Duration) {
	late := false
	var waiting *link
	timer := time.AfterFunc(limit, func() {
		u.mu.Lock()
		late = true
		l := waiting
		u.changed.Broadcast()
		u.mu.Unlock()
		if l != nil {
			l.giveUp()
		}
	})
	for {
		u.mu.Lock()
		waiting = u.link
		l, stop := u.link, late || u.over || u.link == nil
		u.mu.Unlock()
		if stop || l.settled() {
			break
		}
	}
	timer.Stop()
	u.cancel(errLocalClosed)
	<-u.done
}

// view returns the counters, whether there is a session and a stream.
func (u *use) view() (t totals, hasSession, connected bool, failure error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t = u.totals
	if u.link != nil {
		var stats linkStats
		stats, connected = u.link.view()
		t.add(totals{sent: stats.sent, received: stats.received, resumed: stats.resumed})
	}
	return t, u.link != nil, connected, u.failure
}

// sink is the local side with the consumer's handling of controls.
func (u *use) sink() sink { return consumerSink{u.to, u} }

type consumerSink struct {
	sink
	use *use
}

func (s consumerSink) apply(ctx context.Context, c session.Control) {
	if c.Kind == session.KindGap {
		s.use.log.Warn("bytes of the device were lost", "lost", c.Lost, "unknown", c.Unknown)
		s.use.mu.Lock()
		s.use.totals.add(totals{gaps: 1, lost: c.Lost})
		s.use.mu.Unlock()
		return
	}
	s.sink.apply(ctx, c)
}
