package bridge

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

// session waits for one and returns it, or ErrClosed when the use is over.
func (u *use) session() (*link.Link, error) {
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

// present returns the session if there is one now, nil otherwise.
func (u *use) present() *link.Link {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.link
}

// send takes all of p from the application. It blocks until there was room;
// ErrClosed when the use is over. What a session took and could not
// deliver before it was lost is not sent again.
func (u *use) send(p []byte) error {
	for len(p) > 0 {
		if u.gather(earlyItem{data: p}) {
			return nil
		}
		l, err := u.session()
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

// setFrameless asks for line settings from here on, but for the framing that
// a PTY cannot express: that stays as the device has it.
func (u *use) setFrameless(s line.Settings) { u.request(s, true) }

// setLine asks for line settings from here on, and for later sessions.
func (u *use) setLine(s line.Settings) { u.request(s, false) }

func (u *use) request(s line.Settings, frameless bool) {
	if u.gather(earlyItem{line: s, frameless: frameless}) {
		return
	}
	l, err := u.session()
	if err == nil {
		err = l.Control(u.adopt(s, frameless)) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Line: s.String(), Frameless: frameless})
	}
}

// askLine is setLine that waits, as ask does.
func (u *use) askLine(ctx context.Context, s line.Settings) error {
	if _, err := u.session(); err != nil {
		return err
	}
	return u.ask(ctx, u.adopt(s, false))
}

// adopt notes line settings as those in force and returns the request for them.
func (u *use) adopt(s line.Settings, frameless bool) session.Control {
	u.mu.Lock()
	defer u.mu.Unlock()
	if frameless {
		s = reframe(s, u.inForce)
	}
	u.line = s.String()
	u.inForce = s
	return session.Control{Kind: session.KindLine, Line: s.String()}
}

// purge drops what waits for the application and tells the owner.
func (u *use) purge(bits uint64) {
	if u.gather(earlyItem{control: session.Control{Kind: session.KindPurge, Bits: bits}}) {
		return
	}
	l, err := u.session()
	if err == nil {
		err = l.Drop(bits) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Control: session.Control{Kind: session.KindPurge, Bits: bits}})
	}
}

// drive sets the modem outputs in mask as on says, after what was sent before.
func (u *use) drive(mask, on line.ModemLines) {
	u.control(session.Control{Kind: session.KindModem, Mask: uint64(mask), Bits: uint64(on & mask)})
}

// ask sends c and waits until the device's node has done it, after what was
// sent before; ErrClosed: the session ended before that, or the use.
func (u *use) ask(ctx context.Context, c session.Control) error {
	l, err := u.session()
	if err == nil {
		err = l.Control(c)
	}
	if err == nil {
		err = l.Drained(ctx)
	}
	return err
}

// control sends c on the present session; on a later one it would be out of
// place, and OPEN carries the line settings.
func (u *use) control(c session.Control) {
	if u.gather(earlyItem{control: c}) {
		return
	}
	l, err := u.session()
	if err == nil {
		err = l.Control(c) // fails with the session only
	}
	if err != nil {
		u.leaveUnsent(handover.Step{Control: c})
	}
}

// finish ends the use after the application closed: what it wrote is given
// time to be delivered. It returns when the use is over.
func (u *use) finish(limit time.Duration) {
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
	u.cancel(errLocalClosed)
	<-u.done
}

// hadSession reports whether there ever was one.
func (u *use) hadSession() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.begun
}

// useView is a use as it is now.
type useView struct {
	totals
	has, connected bool  // a session, a stream
	over           bool  // nothing more will come
	failure        error // why there is no stream, or the device is away
	trip           time.Duration
	users          string
	line           line.Settings
}

func (u *use) view() useView {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := useView{totals: u.totals, has: u.link != nil, over: u.over, failure: u.failure, users: u.users, line: u.inForce}
	if u.link != nil {
		var stats link.Stats
		stats, v.connected = u.link.View()
		v.add(totalsOf(stats))
		v.trip = stats.Trip
	}
	if v.failure == nil && u.away != "" {
		v.failure = &AwayError{Device: u.device, Text: u.away}
	}
	return v
}

// status is a view for people, without what only an attachment has.
func (u *use) status() Status {
	seen := u.view()
	s := Status{
		Device: u.device, Kind: u.kind, Err: seen.failure, RoundTrip: seen.trip, Users: seen.users, Line: seen.line,
		Sent: seen.sent, Received: seen.received, Resumed: seen.resumed, Gaps: seen.gaps, Lost: seen.lost,
	}
	switch {
	case seen.connected && seen.failure == nil:
		s.State = AttachmentConnected
	case u.right.isKicked():
		s.State = AttachmentKicked
	case seen.has:
		s.State = AttachmentHolding
	}
	s.Session, s.Owner = u.current()
	return s
}

// AwayError says that the device of a session that goes on is not there now:
// its owner keeps the session for the hold time. It unwraps to
// session.CodeGone.
type AwayError struct{ Device, Text string }

// Error says what the owner said.
func (e *AwayError) Error() string {
	return fmt.Sprintf("device %q is away, its session is kept: %s", e.Device, e.Text)
}

// Unwrap returns session.CodeGone.
func (e *AwayError) Unwrap() error { return session.CodeGone }

// sink is the local side with the consumer's handling of controls.
func (u *use) sink() link.Sink { return consumerSink{u.to, u} }

type consumerSink struct {
	link.Sink
	use *use
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
func (u *use) heard(c session.Control) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch c.Kind {
	case session.KindGap:
		u.totals.add(totals{gaps: 1, lost: c.Lost})
		u.log.Warn("bytes of the device were lost", "lost", c.Lost, "unknown", c.Unknown)
	case session.KindLoss:
		u.totals.add(totals{gaps: 1, lost: c.Lost})
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

// port returns what the owner said of the port: the line settings in force and
// its capabilities; nil: it named none.
func (u *use) port() (line.Settings, []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.inForce, u.can
}

// because adds what was in the way.
func (u *use) because(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, u.failure)
}

// finished wakes whoever waits in send.
func (u *use) finished() {
	if u.isAtRest() {
		u.telling.Lock() // whoever sends what is early has an end: the session is closed
		defer u.telling.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.rest.leaving {
		u.leaveEarlyLocked()
	} else if lost := u.earlyBytes(); lost > 0 {
		u.totals.add(totals{gaps: 1, lost: uint64(lost)})
		u.log.Warn("there was no session for what the application wrote, it is lost", "lost", lost)
	}
	u.early = nil
	u.changed.Broadcast()
}

func (u *use) note(err error) {
	u.mu.Lock()
	u.failure = err
	u.mu.Unlock()
	if n, ok := u.to.(interface{ noted() }); ok {
		n.noted()
	}
}

// isClose reports whether err is the peer's word that a session is over.
func isClose(err error) bool {
	var closed *session.CloseError
	return errors.As(err, &closed)
}
