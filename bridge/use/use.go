package use

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/backoff"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// redialFirst is the first pause before a lost connection is made again, up
	// to link.RedialMost; a change of the registry or of the members ends one.
	redialFirst = 50 * time.Millisecond
	// dialTimeout bounds one attempt: resolve, dial, OPEN, ACCEPT.
	dialTimeout = 5 * time.Second
)

var (
	// errHoldOver ends a use: the device was out of reach for the hold time.
	errHoldOver = errors.New("device was out of reach for the hold time")
	// ErrLocalClosed ends a use: its application closed.
	ErrLocalClosed = errors.New("application closed")
)

// Config is what the uses of a node have in common. No field may be left out.
type Config struct {
	// Resolve finds a device by name or name@node.
	Resolve func(query string) (Target, error)
	// Watch returns a channel that signals changes of what Resolve or Dial
	// may say, and a function that ends it.
	Watch func() (changes <-chan struct{}, stop func())
	// Dial opens a session stream to a device's owner, which may be this
	// node itself.
	Dial func(ctx context.Context, owner identity.NodeID) (net.Conn, error)
	// Hold is how long a use goes on without a stream as long as no owner said how
	// long it keeps the session.
	Hold time.Duration
	// Window is how many bytes each direction of a session keeps.
	Window int
}

// Options say what one use is for.
type Options struct {
	Device string // name or name@node
	Kind   string // what OPEN tells the owner
	Line   string // wanted at the begin; empty: as the device has it
	// Eager ends the use on the first refusal before there was a session: a
	// person waits for the answer.
	Eager bool
	// ReadOnly asks to read along.
	ReadOnly bool
	// Gathers lets the application go on while there is no session; see gather.
	Gathers bool
	// Keeps lays the use to rest, for the next process, when the Attacher ends.
	Keeps bool
	// Told is told of a new session, or that it was taken. Default: nobody is.
	Told func()
}

// Use is one application's use of a device, from its open to its close. It
// finds the device, opens a session, resumes it on new streams, and begins a
// new session where the old is lost. Two goroutines carry it: run, which is
// also the reader of the stream, and whoever reads the local side and calls
// Send.
type Use struct {
	Options
	config *Config
	log    *slog.Logger
	to     link.Sink
	right  *Right

	farewells sync.WaitGroup // of closed links, and those who send what is early; joined by run
	telling   sync.Mutex     // held by who sends what is early

	mu      sync.Mutex
	changed *sync.Cond // of mu: link, over
	link    *link.Link // nil: no session now
	target  Target     // of link
	line    string     // wanted, for OPEN; empty: as the device has it
	inForce line.Settings
	can     []string      // capabilities of the port, as its owner said
	hold    time.Duration // of the session, as its owner said; before that the attacher's
	next    session.ID    // of the next session
	// attempts counts the OPENs.
	attempts uint64
	gap      uint64 // lost before the next session, to be told to the owner
	begun    bool   // there was a session
	over     bool
	failure  error // why there is no stream now
	totals   Totals
	users    string // who else uses the device, as its owner says
	away     string // why the device is not there, as its owner says; empty: it is
	early    []earlyItem
	cancel   context.CancelCauseFunc
	done     chan struct{}
	rest     rest
}

// New returns a use that does nothing until Start, for an application to which
// the session writes by to. A Sink may have more methods, none of which may block:
//
//	Begins(between bool)  a new session begins; between: what came since the last is lost
//	Loses(n uint64)       up to so many bytes for the device are lost with a session
//	Noted()               what View says may have changed
func New(config *Config, log *slog.Logger, to link.Sink, r *Right, o Options) *Use {
	u := &Use{Options: o, config: config, log: log, to: to, right: r, line: o.Line, hold: config.Hold, done: make(chan struct{})}
	u.changed = sync.NewCond(&u.mu)
	u.next = newID()
	return u
}

func newID() (id session.ID) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// Start runs the use on a goroutine of workers, and tells ended why it is over. ctx
// ends it.
func (u *Use) Start(ctx context.Context, workers *sync.WaitGroup, ended func(error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	u.cancel = cancel
	workers.Go(func() {
		defer close(u.done)
		err := u.run(ctx)
		cancel(err)
		ended(err)
	})
}

// Cancel makes a use that was started end, for the reason of err. It does not wait.
func (u *Use) Cancel(err error) { u.cancel(err) }

// Wait blocks until the use is over.
func (u *Use) Wait() { <-u.done }

// run blocks until the use is over and says why.
func (u *Use) run(ctx context.Context) error {
	changes, unwatch := u.config.Watch()
	defer unwatch()
	defer u.farewells.Wait()
	defer u.finished()
	pause := backoff.Backoff{First: redialFirst, Most: link.RedialMost}
	since := time.Now() // without a stream
	for {
		left := u.HoldTime() - time.Since(since)
		if left <= 0 {
			u.drop(session.CloseError{Code: session.CodeNormal, Text: "hold is over"})
			return u.because(errHoldOver)
		}
		holdCtx, cancel := context.WithTimeout(ctx, left)
		lasted, err := u.once(holdCtx, ctx)
		if lasted > 0 {
			since = time.Now()
		}
		if lasted > link.RedialMost {
			pause.Reset()
		}
		if ctx.Err() != nil {
			cancel()
			u.leave(ctx)
			return context.Cause(ctx)
		}
		fatal := u.judge(err)
		if fatal == nil && (lasted <= link.RedialMost || isClose(err)) {
			pause.Wait(holdCtx, changes, nil) // a stream that broke is made again at once
		}
		cancel()
		if fatal != nil {
			return fatal
		}
	}
}

// HoldTime is how long the use goes on without a stream. The owner says it with
// each ACCEPT: it keeps the session for so long, and to be hung up earlier would
// lose what a rule wants kept.
func (u *Use) HoldTime() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hold
}

// once makes one stream and serves it until it ends; it says how long that
// lasted, 0 if there was none. The attempt ends with dialCtx, the stream with
// ctx.
func (u *Use) once(dialCtx, ctx context.Context) (lasted time.Duration, err error) {
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
		u.leave(ctx)
	})
	defer func() {
		if !stop() {
			<-dropped
		}
	}()
	err = l.Serve(conn, frames)
	if ctx.Err() == nil && !isClose(err) {
		u.log.Info("stream to the device broke, session is held", "session", l.ID, "err", err)
	}
	return max(time.Since(began), 1), err
}

// judge draws the consequences of a failure and returns an error if the use
// is over.
func (u *Use) judge(err error) error {
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
	case session.CodeRefused, session.CodeRemoved:
		return err
	case session.CodeKicked:
		u.right.Lose()
		u.tell()
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
func (u *Use) isEagerFor(err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	var target *TargetError
	return u.Eager && !u.begun && (isClose(err) || errors.As(err, &target))
}

// drop ends the session, if there is one, and counts what is lost.
func (u *Use) drop(why session.CloseError) {
	u.mu.Lock()
	l := u.link
	u.link = nil
	u.mu.Unlock()
	if l == nil {
		return
	}
	lost := l.Close(why)
	u.farewells.Go(l.Wait)
	stats, _ := l.View()
	u.mu.Lock()
	u.totals.Add(totalsOf(stats))
	u.users, u.away = "", ""
	if lost > 0 {
		u.totals.Add(Totals{Gaps: 1, Lost: uint64(lost)})
		u.gap += uint64(lost)
	}
	u.mu.Unlock()
	if to, ok := u.to.(interface{ Loses(n uint64) }); ok && lost > 0 {
		to.Loses(uint64(lost))
	}
	if lost > 0 {
		u.log.Warn("session lost, bytes for the device may be lost with it", "session", l.ID, "lost", lost, "reason", why.Code.Error())
	}
}
