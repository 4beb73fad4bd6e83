package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/backoff"
	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// AttachmentState is how far an attachment is.
type AttachmentState uint8

// The states of an attachment.
const (
	// AttachmentWaiting: no application has it open, or there was no session
	// for it yet.
	AttachmentWaiting AttachmentState = iota
	// AttachmentConnected: bytes flow.
	AttachmentConnected
	// AttachmentHolding: the way to the device broke; the application sees
	// nothing of it.
	AttachmentHolding
	// AttachmentKicked: another consumer took the device; this one waits.
	AttachmentKicked
	// AttachmentFailed: the link or listener cannot be made.
	AttachmentFailed
)

// String returns the state in lower case.
func (s AttachmentState) String() string {
	return [...]string{"waiting", "connected", "holding", "kicked", "failed"}[s]
}

// Status is an attachment as it is.
type Status struct {
	ID     string
	Device string // as asked for
	Kind   string // "pty", "tcp", "rfc2217"
	Where  string // link path or the address listened on
	State  AttachmentState
	Age    time.Duration // in this state, as far as it was looked at
	// Err is the last failure; nil if there is nothing in the way.
	Err   error
	Owner identity.NodeID // of the present session; zero: none
	// Session is the present one; zero: none.
	Session        session.ID
	Sent, Received uint64 // bytes to and from the device, over all sessions
	Resumed, Gaps  int
	Lost           uint64 // bytes in the gaps, at most
	// RoundTrip is that of the present session, between this node and the
	// device's owner; 0: not measured yet.
	RoundTrip time.Duration
	Line      line.Settings // in force, as far as is known
	Users     string        // who else uses the device; empty: nobody
}

// attachment is one Spec at work. run belongs to Attacher.Run.
type attachment struct {
	attacher *Attacher
	log      *slog.Logger
	spec     Spec
	right    *right
	cancel   context.CancelFunc // nil: not started; guarded by Attacher.mu, like stopped
	stopped  chan struct{}      // closed at the end of run
	ready    chan struct{}      // closed after the first attempt to set up

	mu     sync.Mutex
	where  string
	failed error     // to set up; nil: stands
	good   time.Time // until when a client may wait for the device; zero: it was never there
	last   error     // why the last use ended, if not by its application
	use    *use      // nil: no application
	totals totals
	state  AttachmentState
	since  time.Time
	first  sync.Once

	// Of a PTY that is kept over a restart; see handover.go.
	keeping *keeping
	rest    *handover.Record // of the process before, until the first use has it
	wanted  line.Settings    // what an application has set; zero: none did
}

// Pauses before a link or listener is tried again.
const (
	setupFirst = time.Second
	setupMost  = 30 * time.Second
)

func newAttachment(a *Attacher, s Spec) *attachment {
	return &attachment{
		attacher: a, log: a.config.Logger.With("attachment", s.ID, "device", s.Device), spec: s,
		right: &right{take: s.Take.wire()}, ready: make(chan struct{}),
		where: s.where(), since: time.Now(),
	}
}

// run keeps the attachment's local side standing until ctx is done.
func (t *attachment) run(ctx context.Context) {
	pause := backoff.Backoff{First: setupFirst, Most: setupMost}
	for ctx.Err() == nil {
		var err error
		if t.spec.PTY != nil {
			err = t.runPTY(ctx)
		} else {
			err = t.listen(ctx)
		}
		if err == nil {
			pause.Reset()
			continue
		}
		t.log.Warn("attachment cannot be set up, retrying", "err", err)
		t.setUp("", err)
		pause.Wait(ctx, nil, nil)
	}
}

// setUp notes the outcome of an attempt to make the local side.
func (t *attachment) setUp(where string, err error) {
	t.mu.Lock()
	t.failed = err
	if err == nil {
		t.where = where
	}
	t.mu.Unlock()
	t.first.Do(func() { close(t.ready) })
}

func (t *attachment) setupError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// begin starts a use for an application; ended is told why it ended.
func (t *attachment) begin(ctx context.Context, to link.Sink, line string, workers *sync.WaitGroup, ended func(error)) *use {
	u := newUse(&t.attacher.config, t.log, t.spec.Device, t.spec.kind(), to, t.right)
	u.line = line
	t.goOn(u)
	u.eager = t.spec.PTY == nil && !t.isPatient()
	u.gathers = t.spec.PTY != nil
	t.mu.Lock()
	t.use, t.last = u, nil
	t.mu.Unlock()
	t.note()
	u.start(ctx, workers, func(err error) {
		seen := u.view()
		t.mu.Lock()
		t.totals.add(seen.totals)
		if u.hadSession() {
			t.good = time.Now().Add(u.holdTime())
		}
		t.use = nil
		if err != errLocalClosed && ctx.Err() == nil {
			t.last = err
			t.log.Warn("application is hung up", "err", err)
		}
		t.mu.Unlock()
		if !u.isAtRest() {
			t.note()
		}
		ended(err)
	})
	return u
}

// isPatient reports whether a client may wait for the device: it was there not
// longer ago than hold. Otherwise a client of a listener is turned away at once
// if there is no device, or if it is busy: that is what a connect tells it.
func (t *attachment) isPatient() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.good) // the zero time is long ago
}

func (t *attachment) status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.totals
	s := Status{Err: t.last}
	switch u := t.use; {
	case t.failed != nil:
		s.State, s.Err = AttachmentFailed, t.failed
	case u != nil:
		s = u.status()
		sum.add(totals{s.Sent, s.Received, s.Resumed, s.Gaps, s.Lost})
	}
	s.ID, s.Device, s.Kind, s.Where = t.spec.ID, t.spec.Device, t.spec.kind(), t.where
	s.Sent, s.Received, s.Resumed, s.Gaps, s.Lost = sum.sent, sum.received, sum.resumed, sum.gaps, sum.lost
	if s.State != t.state {
		t.state, t.since = s.State, time.Now()
	}
	s.Age = time.Since(t.since)
	return s
}

// current returns the present session and its owner, or zero values.
func (u *use) current() (session.ID, identity.NodeID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.link == nil {
		return session.ID{}, identity.NodeID{}
	}
	return u.link.ID, u.target.Owner
}
