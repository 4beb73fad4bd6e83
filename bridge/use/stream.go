package use

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// connect makes a stream to the device's owner and opens or resumes the
// session on it.
func (u *Use) connect(ctx context.Context) (net.Conn, *link.FrameReader, *link.Link, error) {
	target, moved, err := u.find()
	if err != nil {
		return nil, nil, nil, err
	}
	if moved {
		u.log.Info("device has another owner now", "node", target.Owner)
		u.drop(session.CloseError{Code: session.CodeNormal})
	}
	conn, err := u.config.Dial(ctx, target.Owner)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("dial owner %s: %w", target.Owner.Short(), err)
	}
	if u.Present() != nil {
		// The owner answers a resume at once. A stream that has fallen silent by
		// now must not take all of the hold time, as one of the session may not.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, session.BusyDeadAfter, session.ErrSilent)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { u.interrupt(ctx, conn) })
	frames := link.NewFrameReader(conn)
	l, err := u.handshake(conn, frames, target)
	if !stop() && !isClose(err) {
		err = fmt.Errorf("await answer of owner %s: %w", target.Owner.Short(), context.Cause(ctx))
	}
	if l != nil && errors.Is(context.Cause(ctx), ErrLocalClosed) {
		u.drop(session.CloseError{Code: session.CodeNormal}) // tells the owner, and closes
		return nil, nil, nil, ctx.Err()
	}
	if err != nil {
		if l != nil {
			l.Disconnect(conn)
		}
		_ = conn.Close()
		return nil, nil, nil, err
	}
	return conn, frames, l, nil
}

// answerTime is how long the owner's answer is waited for after the application
// has closed.
const answerTime = time.Second

// interrupt ends a handshake whose ctx is done. If it is the application that
// closed, the owner's answer is waited for, so that the session can be closed.
// Otherwise the owner would hold it; and streams do not keep an order between
// them: an OPEN that was given up could reach the owner behind that of the
// application's next open, and take the device from it.
func (u *Use) interrupt(ctx context.Context, conn net.Conn) {
	if errors.Is(context.Cause(ctx), ErrLocalClosed) {
		_ = conn.SetDeadline(time.Now().Add(answerTime))
		return
	}
	_ = conn.Close()
}

// find says where the device is, and whether its session is with another owner.
// A held session is resumed where it was even if the registry has lost sight of
// the owner: after a cut the path is back long before the members agree that
// everybody is alive. What became of the device the owner will say.
func (u *Use) find() (target Target, moved bool, err error) {
	target, err = u.config.Resolve(u.Device)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case err == nil:
		return target, u.link != nil && u.target.Owner != target.Owner, nil
	case u.link != nil:
		return u.target, false, nil
	}
	return Target{}, false, &TargetError{err}
}

func (u *Use) handshake(conn net.Conn, frames *link.FrameReader, target Target) (*link.Link, error) {
	open := u.open(target.Device)
	frame, err := session.AppendOpen(nil, open)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(frame); err != nil {
		return nil, fmt.Errorf("write OPEN: %w", err)
	}
	f, err := frames.Next()
	if err != nil {
		return nil, err
	}
	switch f.Type {
	case session.TypeClose:
		closed, err := session.ParseClose(f.Payload)
		if err != nil {
			return nil, err
		}
		return nil, closed
	case session.TypeAccept:
		accept, err := session.ParseAccept(f.Payload)
		if err != nil {
			return nil, err
		}
		return u.accepted(conn, open, accept, target)
	}
	return nil, fmt.Errorf("read ACCEPT: %w: %v came", session.ErrProtocol, f.Type)
}

// open says what this side wants now.
func (u *Use) open(device string) session.Open {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.attempts++
	o := session.Open{
		Protocol: session.Protocol, Device: device, ID: u.next, Take: u.right.now(),
		Window: uint64(u.config.Window), Line: u.line, Kind: u.Kind,
		ReadOnly: u.ReadOnly, Attempt: u.attempts,
	}
	if u.link != nil {
		o.ID, o.Resume, o.Next = u.link.ID, true, u.link.Next()
	}
	o.Replaces = u.right.ask(o.ID)
	return o
}

// accepted puts the stream to use, for the old session or for a new one.
func (u *Use) accepted(conn net.Conn, open session.Open, accept session.Accept, target Target) (*link.Link, error) {
	if accept.ID != open.ID || accept.Resumed && !open.Resume {
		return nil, fmt.Errorf("read ACCEPT: %w: it is for another session", session.ErrProtocol)
	}
	u.right.granted()
	if open.Resume && !accept.Resumed {
		u.drop(session.CloseError{Code: session.CodeCannotResume})
	}
	missed := false
	u.mu.Lock()
	l := u.link
	if l == nil {
		l = link.New(open.ID, u.config.Window, u.sink(), u.log)
		l.Expect(accept.Window)            // the application may write before connect
		between := u.begun && !open.Resume // of one that was resumed the owner tells the gap
		u.begun, u.next = true, newID()
		if between {
			u.totals.Add(Totals{Gaps: 1})
			missed = true
			u.log.Warn("a new session begins, what the device sent since the last is lost", "unknown", true)
		}
		if u.gap > 0 || u.rest.unknown {
			_ = l.Control(session.Control{Kind: session.KindGap, Lost: u.gap, Unknown: u.rest.unknown}) // an empty session has room
			u.gap, u.rest.unknown = 0, false
		}
		u.link, u.target = l, target
		u.log.Info("session begins", "session", open.ID, "node", target.Owner)
	} else {
		n := l.Resumes()
		u.log.Info("session resumed", "session", open.ID, "node", target.Owner, "offset", accept.Next, "resumed", n)
	}
	u.inForce, _ = line.Parse(accept.Line) // zero if it says nothing
	u.can = accept.Capabilities
	if hold := time.Duration(min(accept.HoldMillis, math.MaxInt32)) * time.Millisecond; hold > 0 {
		u.hold = hold
	}
	fresh, ok := u.to.(interface{ Begins(between bool) })
	if !ok || open.Resume && accept.Resumed {
		fresh = nil
	}
	u.changed.Broadcast()
	u.mu.Unlock()
	if fresh != nil {
		fresh.Begins(missed)
	}
	u.tell()
	l.SetMaxStale(time.Duration(min(accept.StaleMillis, math.MaxInt32)) * time.Millisecond)
	if err := l.Connect(conn, accept.Next, accept.Window); err != nil {
		u.drop(session.CloseError{Code: session.CodeCannotResume})
		return nil, err
	}
	u.farewells.Go(func() { u.tellEarly(l) })
	return l, nil
}
