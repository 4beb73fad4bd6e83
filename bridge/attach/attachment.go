package attach

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/backoff"
	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/use"
)

// attachment is one Spec at work. run belongs to Attacher.Run.
type attachment struct {
	attacher *Attacher
	log      *slog.Logger
	spec     Spec
	right    *use.Right
	cancel   context.CancelFunc // nil: not started; guarded by Attacher.mu, like stopped
	stopped  chan struct{}      // closed at the end of run
	ready    chan struct{}      // closed after the first attempt to set up

	mu     sync.Mutex
	where  string
	failed error     // to set up; nil: stands
	good   time.Time // until when a client may wait for the device; zero: it was never there
	last   error     // why the last use ended, if not by its application
	use    *use.Use  // nil: no application
	totals use.Totals
	state  use.State
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
		right: use.NewRight(s.Take), ready: make(chan struct{}),
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
func (t *attachment) begin(ctx context.Context, to link.Sink, line string, workers *sync.WaitGroup, ended func(error)) *use.Use {
	u := use.New(&t.attacher.each, t.log, to, t.right, use.Options{
		Device: t.spec.Device, Kind: t.spec.kind(), Line: line,
		Eager: t.spec.PTY == nil && !t.isPatient(), Gathers: t.spec.PTY != nil,
		Keeps: t.isKept(), Told: t.note,
	})
	t.goOn(u)
	t.mu.Lock()
	t.use, t.last = u, nil
	t.mu.Unlock()
	t.note()
	u.Start(ctx, workers, func(err error) {
		seen := u.View()
		t.mu.Lock()
		t.totals.Add(seen.Totals)
		if u.HadSession() {
			t.good = time.Now().Add(u.HoldTime())
		}
		t.use = nil
		if err != use.ErrLocalClosed && ctx.Err() == nil {
			t.last = err
			t.log.Warn("application is hung up", "err", err)
		}
		t.mu.Unlock()
		if !u.IsAtRest() {
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

func (t *attachment) status() use.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.totals
	s := use.Status{Err: t.last}
	switch u := t.use; {
	case t.failed != nil:
		s.State, s.Err = use.Failed, t.failed
	case u != nil:
		s = u.Status()
		sum.Add(use.Totals{Sent: s.Sent, Received: s.Received, Resumed: s.Resumed, Gaps: s.Gaps, Lost: s.Lost})
	}
	s.ID, s.Device, s.Kind, s.Where = t.spec.ID, t.spec.Device, t.spec.kind(), t.where
	s.Sent, s.Received, s.Resumed, s.Gaps, s.Lost = sum.Sent, sum.Received, sum.Resumed, sum.Gaps, sum.Lost
	if s.State != t.state {
		t.state, t.since = s.State, time.Now()
	}
	s.Age = time.Since(t.since)
	return s
}
