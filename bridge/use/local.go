package use

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// Session waits for one and returns it, or ErrClosed when the use is over.
func (u *Use) Session() (*link.Link, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for (u.link == nil || len(u.early) > 0) && !u.over {
		u.changed.Wait()
	}
	if u.over {
		return nil, link.ErrClosed
	}
	return u.link, nil
}

// Present returns the session if there is one now, nil otherwise.
func (u *Use) Present() *link.Link {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.link
}

// Send takes all of p from the application. It blocks until there was room;
// ErrClosed when the use is over. What a session took and could not
// deliver before it was lost is not sent again.
func (u *Use) Send(p []byte) error {
	for len(p) > 0 {
		if u.gather(earlyItem{data: p}) {
			return nil
		}
		l, err := u.Session()
		if err != nil {
			u.leaveUnsent(handover.Step{Bytes: p})
			return err
		}
		n, _ := l.Send(p) // a closed session takes less, the next the rest
		p = p[n:]
	}
	return nil
}

// reframe gives s the data bits and parity of framing, if that is not zero,
// with the stop bits that go with them.
func reframe(s, framing line.Settings) line.Settings {
	if framing.IsZero() {
		return s
	}
	s.DataBits, s.Parity = framing.DataBits, framing.Parity
	if s.StopBits != line.StopOne {
		s.StopBits = line.StopTwo
		if s.DataBits == 5 {
			s.StopBits = line.StopOneAndHalf
		}
	}
	return s
}

// SetFrameless asks for line settings from here on, but for the framing that
// a PTY cannot express: that stays as the device has it.
func (u *Use) SetFrameless(s line.Settings) { u.request(s, true) }

// SetLine asks for line settings from here on, and for later sessions.
func (u *Use) SetLine(s line.Settings) { u.request(s, false) }

func (u *Use) request(s line.Settings, frameless bool) {
	if u.gather(earlyItem{line: s, frameless: frameless}) {
		return
	}
	l, err := u.Session()
	if err == nil {
		err = l.Control(u.adopt(s, frameless)) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Line: s.String(), Frameless: frameless})
	}
}

// AskLine is SetLine that waits, as ask does.
func (u *Use) AskLine(ctx context.Context, s line.Settings) error {
	if _, err := u.Session(); err != nil {
		return err
	}
	return u.Ask(ctx, u.adopt(s, false))
}

// adopt notes line settings as those in force and returns the request for them.
func (u *Use) adopt(s line.Settings, frameless bool) session.Control {
	u.mu.Lock()
	defer u.mu.Unlock()
	if frameless {
		s = reframe(s, u.inForce)
	}
	u.line = s.String()
	u.inForce = s
	return session.Control{Kind: session.KindLine, Line: s.String()}
}

// Purge drops what waits for the application and tells the owner.
func (u *Use) Purge(bits uint64) {
	if u.gather(earlyItem{control: session.Control{Kind: session.KindPurge, Bits: bits}}) {
		return
	}
	l, err := u.Session()
	if err == nil {
		err = l.Drop(bits) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Control: session.Control{Kind: session.KindPurge, Bits: bits}})
	}
}

// Drive sets the modem outputs in mask as on says, after what was sent before.
func (u *Use) Drive(mask, on line.ModemLines) {
	u.Control(session.Control{Kind: session.KindModem, Mask: uint64(mask), Bits: uint64(on & mask)})
}

// Ask sends c and waits until the device's node has done it, after what was
// sent before; ErrClosed: the session ended before that, or the use.
func (u *Use) Ask(ctx context.Context, c session.Control) error {
	l, err := u.Session()
	if err == nil {
		err = l.Control(c)
	}
	if err == nil {
		err = l.Drained(ctx)
	}
	return err
}

// Control sends c on the present session; on a later one it would be out of
// place, and OPEN carries the line settings.
func (u *Use) Control(c session.Control) {
	if u.gather(earlyItem{control: c}) {
		return
	}
	l, err := u.Session()
	if err == nil {
		err = l.Control(c) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Control: c})
	}
}

// Finish ends the use after the application closed: what it wrote is given
// time to be delivered. It returns when the use is over.
func (u *Use) Finish(limit time.Duration) {
	late := false
	var waiting *link.Link
	timer := time.AfterFunc(limit, func() {
		u.mu.Lock()
		late = true
		l := waiting
		u.changed.Broadcast()
		u.mu.Unlock()
		if l != nil {
			l.GiveUp()
		}
	})
	for {
		u.mu.Lock()
		for len(u.early) > 0 && !late && !u.over {
			u.changed.Wait()
		}
		waiting = u.link
		l, stop := u.link, late || u.over || u.link == nil
		u.mu.Unlock()
		if stop || l.Settled() {
			break
		}
	}
	timer.Stop()
	u.Cancel(ErrLocalClosed)
	u.Wait()
}

// HadSession reports whether there ever was one.
func (u *Use) HadSession() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.begun
}

// sink is the local side with the consumer's handling of controls.
func (u *Use) sink() link.Sink { return consumerSink{u.to, u} }

type consumerSink struct {
	link.Sink
	use *Use
}

func (s consumerSink) Apply(ctx context.Context, c session.Control) {
	if c.Kind == session.KindGap || c.Kind == session.KindLoss {
		s.use.heard(c)
	}
	s.Sink.Apply(ctx, c)
}

// Hear takes notice of what has no place in the data.
func (s consumerSink) Hear(c session.Control) {
	if c.Kind != session.KindGap && c.Kind != session.KindLoss {
		s.use.heard(c)
	}
	if h, ok := s.Sink.(link.Hearer); ok {
		h.Hear(c)
	}
}

// heard takes notice of what the owner told.
func (u *Use) heard(c session.Control) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch c.Kind {
	case session.KindGap:
		u.totals.Add(Totals{Gaps: 1, Lost: c.Lost})
		u.log.Warn("bytes of the device were lost", "lost", c.Lost, "unknown", c.Unknown)
	case session.KindLoss:
		u.totals.Add(Totals{Gaps: 1, Lost: c.Lost})
		u.log.Warn("bytes for the device may not have reached it", "lost", c.Lost, "unknown", c.Unknown)
	case session.KindFailed:
		if s, err := line.Parse(c.Line); err == nil {
			u.inForce = s
		}
		u.log.Warn("device did not do what was asked", "line", c.Line, "err", c.Text)
	case session.KindUsers:
		u.users = c.Text
		if c.Text != "" {
			u.log.Info("others use the device too", "users", c.Text)
		}
	case session.KindPort:
		if u.away = ""; c.Bits == session.PortAway {
			u.away = cmp.Or(c.Text, "unplugged")
		}
	}
}

// Port returns what the owner said of the port: the line settings in force and
// its capabilities; nil: it named none.
func (u *Use) Port() (line.Settings, []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.inForce, u.can
}

// because adds what was in the way.
func (u *Use) because(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, u.failure)
}

// finished wakes whoever waits in Send.
func (u *Use) finished() {
	if u.IsAtRest() {
		u.telling.Lock() // whoever sends what is early has an end: the session is closed
		defer u.telling.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.rest.leaving {
		u.leaveEarlyLocked()
	} else if lost := u.earlyBytes(); lost > 0 {
		u.totals.Add(Totals{Gaps: 1, Lost: uint64(lost)})
		u.log.Warn("there was no session for what the application wrote, it is lost", "lost", lost)
	}
	u.early = nil
	u.changed.Broadcast()
}

func (u *Use) note(err error) {
	u.mu.Lock()
	u.failure = err
	u.mu.Unlock()
	if n, ok := u.to.(interface{ Noted() }); ok {
		n.Noted()
	}
}

// isClose reports whether err is the peer's word that a session is over.
func isClose(err error) bool {
	var closed *session.CloseError
	return errors.As(err, &closed)
}
