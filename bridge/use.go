package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// Pauses before a lost connection is made again; a change of the registry or
// of the members ends a pause.
const (
	redialFirst = 50 * time.Millisecond
	redialMost  = 2 * time.Second
	// dialTimeout bounds one attempt: resolve, dial, OPEN, ACCEPT.
	dialTimeout = 5 * time.Second
)

var (
	// errHoldOver ends a use: the device was out of reach for the hold time.
	errHoldOver = errors.New("device was out of reach for the hold time")
	// errLocalClosed ends a use: its application closed.
	errLocalClosed = errors.New("application closed")
)

// use is one application's use of a device, from its open to its close. It
// finds the device, opens a session, resumes it on new streams, and begins a
// new session where the old is lost. Two goroutines carry it: run, which is
// also the reader of the stream, and whoever reads the local side and calls
// send.
type use struct {
	config *AttacherConfig
	log    *slog.Logger
	device string // as asked for
	kind   string
	to     sink
	right  *right
	// eager ends the use on the first refusal before there was a session: a
	// person waits for the answer.
	eager bool

	farewells sync.WaitGroup // of closed links; joined by run

	mu      sync.Mutex
	changed *sync.Cond // of mu: link, over
	link    *link      // nil: no session now
	target  Target     // of link
	line    string     // wanted, for OPEN; empty: as the device has it
	inForce line.Settings
	can     []string   // capabilities of the port, as its owner said
	next    session.ID // of the next session
	gap     uint64     // lost before the next session, to be told to the owner
	begun   bool       // there was a session
	over    bool
	failure error // why there is no stream now
	totals  totals
	users   string // who else uses the device, as its owner says
	away    string // why the device is not there, as its owner says; empty: it is
	cancel  context.CancelCauseFunc
	done    chan struct{}
}

func newUse(config *AttacherConfig, log *slog.Logger, device, kind string, to sink, r *right) *use {
	u := &use{config: config, log: log, device: device, kind: kind, to: to, right: r, done: make(chan struct{})}
	u.changed = sync.NewCond(&u.mu)
	u.next = newID()
	return u
}

func newID() (id session.ID) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// start runs the use on a goroutine of workers. ctx ends it.
func (u *use) start(ctx context.Context, workers *sync.WaitGroup, ended func(error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	u.cancel = cancel
	workers.Go(func() {
		defer close(u.done)
		err := u.run(ctx)
		cancel(err)
		ended(err)
	})
}

// run blocks until the use is over and says why.
func (u *use) run(ctx context.Context) error {
	changes, unwatch := u.config.Watch()
	defer unwatch()
	defer u.farewells.Wait()
	defer u.finished()
	pause := backoff{first: redialFirst, most: redialMost}
	since := time.Now() // without a stream
	for {
		left := u.config.Hold - time.Since(since)
		if left <= 0 {
			u.drop(session.CloseError{Code: session.CodeNormal, Text: "hold is over"})
			return u.because(errHoldOver)
		}
		holdCtx, cancel := context.WithTimeout(ctx, left)
		lasted, err := u.once(holdCtx, ctx)
		if lasted > 0 {
			since = time.Now()
		}
		if lasted > redialMost {
			pause.reset()
		}
		if ctx.Err() != nil {
			cancel()
			u.drop(session.CloseError{Code: session.CodeNormal})
			return context.Cause(ctx)
		}
		fatal := u.judge(err)
		if fatal == nil && (lasted <= redialMost || isClose(err)) {
			pause.wait(holdCtx, changes, nil) // a stream that broke is made again at once
		}
		cancel()
		if fatal != nil {
			return fatal
		}
	}
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

// once makes one stream and serves it until it ends; it says how long that
// lasted, 0 if there was none. The attempt ends with dialCtx, the stream with
// ctx.
func (u *use) once(dialCtx, ctx context.Context) (lasted time.Duration, err error) {
	dialCtx, cancel := context.WithTimeout(dialCtx, dialTimeout)
	defer cancel()
	conn, frames, l, err := u.connect(dialCtx)
	if err != nil {
		return 0, err
	}
	cancel()
	u.note(nil)
	began := time.Now()
	// On a normal end the peer is told, and the stream with it comes to an end.
	dropped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(dropped)
		u.drop(session.CloseError{Code: session.CodeNormal})
	})
	defer func() {
		if !stop() {
			<-dropped
		}
	}()
	err = l.serve(conn, frames)
	if ctx.Err() == nil && !isClose(err) {
		u.log.Info("stream to the device broke, session is held", "session", l.id, "err", err)
	}
	return max(time.Since(began), 1), err
}

func isClose(err error) bool {
	var closed *session.CloseError
	return errors.As(err, &closed)
}

// judge draws the consequences of a failure and returns an error if the use
// is over.
func (u *use) judge(err error) error {
	u.note(err)
	var closed *session.CloseError
	switch {
	case errors.As(err, &closed):
		u.drop(session.CloseError{Code: closed.Code})
	case errors.Is(err, session.ErrProtocol):
		u.drop(session.CloseError{Code: session.CodeProtocol, Text: err.Error()})
		return nil
	default:
		if u.isEagerFor(err) {
			return err
		}
		u.log.Debug("no stream to the device, retrying", "err", err)
		return nil
	}
	switch closed.Code {
	case session.CodeRefused:
		return err
	case session.CodeKicked:
		u.right.lose()
		u.log.Info("device was taken, waiting politely", "err", err)
	default:
		u.log.Info("session ended by the owner, trying again", "err", err)
	}
	if u.isEagerFor(err) {
		return err
	}
	return nil
}

// isEagerFor reports whether err is an answer for a person who waits.
func (u *use) isEagerFor(err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	var target *TargetError
	return u.eager && !u.begun && (isClose(err) || errors.As(err, &target))
}

// connect makes a stream to the device's owner and opens or resumes the
// session on it.
func (u *use) connect(ctx context.Context) (net.Conn, *frameReader, *link, error) {
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
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	frames := newFrameReader(conn)
	l, err := u.handshake(conn, frames, target)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if l != nil {
			l.disconnect(conn)
		}
		_ = conn.Close()
		return nil, nil, nil, err
	}
	return conn, frames, l, nil
}

// find says where the device is, and whether its session is with another owner.
// A held session is resumed where it was even if the registry has lost sight of
// the owner: after a cut the path is back long before the members agree that
// everybody is alive. What became of the device the owner will say.
func (u *use) find() (target Target, moved bool, err error) {
	target, err = u.config.Resolve(u.device)
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

func (u *use) handshake(conn net.Conn, frames *frameReader, target Target) (*link, error) {
	open := u.open(target.Device)
	frame, err := session.AppendOpen(nil, open)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(frame); err != nil {
		return nil, fmt.Errorf("write OPEN: %w", err)
	}
	f, err := frames.next()
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
func (u *use) open(device string) session.Open {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := session.Open{
		Protocol: session.Protocol, Device: device, ID: u.next, Take: u.right.now(),
		Window: uint64(u.config.Window), Line: u.line, Kind: u.kind,
		ReadOnly: u.kind == monitorKind,
	}
	if u.link != nil {
		o.ID, o.Resume, o.Next = u.link.id, true, u.link.next()
	}
	return o
}

// accepted puts the stream to use, for the old session or for a new one.
func (u *use) accepted(conn net.Conn, open session.Open, accept session.Accept, target Target) (*link, error) {
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
		l = newLink(open.ID, u.config.Window, u.sink(), u.log)
		between := u.begun && !open.Resume // of one that was resumed the owner tells the gap
		u.begun, u.next = true, newID()
		if between {
			u.totals.add(totals{gaps: 1})
			missed = true
			u.log.Warn("a new session begins, what the device sent since the last is lost", "unknown", true)
		}
		if u.gap > 0 {
			_ = l.control(session.Control{Kind: session.KindGap, Lost: u.gap}) // an empty session has room
			u.gap = 0
		}
		u.link, u.target = l, target
		u.log.Info("session begins", "session", open.ID, "node", target.Owner)
	} else {
		n := l.resumes()
		u.log.Info("session resumed", "session", open.ID, "node", target.Owner, "offset", accept.Next, "resumed", n)
	}
	u.inForce, _ = line.Parse(accept.Line) // zero if it says nothing
	u.can = accept.Capabilities
	fresh, ok := u.to.(interface{ begins(between bool) })
	if !ok || open.Resume && accept.Resumed {
		fresh = nil
	}
	u.changed.Broadcast()
	u.mu.Unlock()
	if fresh != nil {
		fresh.begins(missed)
	}
	l.setMaxStale(time.Duration(min(accept.StaleMillis, math.MaxInt32)) * time.Millisecond)
	if err := l.connect(conn, accept.Next, accept.Window); err != nil {
		u.drop(session.CloseError{Code: session.CodeCannotResume})
		return nil, err
	}
	return l, nil
}

// drop ends the session, if there is one, and counts what is lost.
func (u *use) drop(why session.CloseError) {
	u.mu.Lock()
	l := u.link
	u.link = nil
	u.mu.Unlock()
	if l == nil {
		return
	}
	lost := l.close(why)
	u.farewells.Go(l.wait)
	stats, _ := l.view()
	u.mu.Lock()
	u.totals.add(stats.totals())
	u.users, u.away = "", ""
	if lost > 0 {
		u.totals.add(totals{gaps: 1, lost: uint64(lost)})
		u.gap += uint64(lost)
	}
	u.mu.Unlock()
	if lost > 0 {
		u.log.Warn("session lost, bytes for the device may be lost with it", "session", l.id, "lost", lost, "reason", why.Code.Error())
	}
}

// finished wakes whoever waits in send.
func (u *use) finished() {
	u.mu.Lock()
	u.over = true
	u.changed.Broadcast()
	u.mu.Unlock()
}

func (u *use) note(err error) {
	u.mu.Lock()
	u.failure = err
	u.mu.Unlock()
}
