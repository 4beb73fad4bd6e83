package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Config configures an Attacher.
type Config struct {
	// Resolve finds a device by name or name@node. Required.
	Resolve func(query string) (use.Target, error)
	// Watch returns a channel that signals changes of what Resolve or Dial
	// may say, and a function that ends it. Default: no signals, only
	// retries with growing pauses.
	Watch func() (changes <-chan struct{}, stop func())
	// Dial opens a session stream to a device's owner, which may be this
	// node itself. Required.
	Dial func(ctx context.Context, owner identity.NodeID) (net.Conn, error)
	// Hold is how long an application sees nothing of an outage, before it
	// is hung up, as long as no owner said how long it keeps the session: the
	// device's rule knows. Default 15 s.
	Hold time.Duration
	// Window is how many bytes each direction of a session keeps. Default
	// session.DefaultWindow.
	Window int
	// Files keeps the terminals of PTY attachments, and what is on its way
	// through them, over a restart of this process. Default: nothing does, and
	// applications are hung up when Run ends.
	Files FileStore
	// Logger. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Resolve == nil {
		c.Resolve = func(query string) (use.Target, error) {
			return use.Target{}, fmt.Errorf("resolve %q: no registry", query)
		}
	}
	if c.Watch == nil {
		c.Watch = func() (<-chan struct{}, func()) { return nil, func() {} }
	}
	if c.Dial == nil {
		c.Dial = func(context.Context, identity.NodeID) (net.Conn, error) {
			return nil, errors.New("no mesh")
		}
	}
	if c.Hold <= 0 {
		c.Hold = session.DefaultHold
	}
	if c.Window <= 0 {
		c.Window = session.DefaultWindow
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// PTYSpec is a PTY attachment as it shall be.
type PTYSpec struct {
	Link  string      // absolute path of the symbolic link
	Mode  fs.FileMode // of the terminal's node; 0: 0600, with a group 0660
	Owner string      // of the terminal's node, user name or number; empty: the agent's user. Another takes root
	Group string      // of the terminal's node, name or number; empty: unchanged
}

// Spec is an attachment as it shall be: a device, and exactly one of PTY, TCP
// and RFC2217. It is comparable but for PTY.
type Spec struct {
	// ID names the attachment. Empty: one is made of its place.
	ID     string
	Device string // name or name@node
	PTY    *PTYSpec
	TCP    string // IP:PORT to listen on for raw bytes; port 0: a free one
	// RFC2217 is IP:PORT to listen on for Telnet with the COM-PORT-OPTION;
	// port 0: a free one.
	RFC2217 string
	Take    use.Take
	// Line are the line settings that a session begins with; zero: the
	// device's own. A PTY has the framing (data bits and parity) from here
	// for ever, since no application can set it there.
	Line line.Settings
}

func (s Spec) check() error {
	switch {
	case s.Device == "":
		return errors.New("no device is named")
	case count(s.PTY != nil, s.TCP != "", s.RFC2217 != "") != 1:
		return errors.New("want exactly one of a PTY, a TCP and an RFC 2217 address")
	case !s.Line.IsZero() && s.Line.Check() != nil:
		return s.Line.Check()
	case s.PTY != nil && s.PTY.Link == "":
		return errors.New("no link is named for the PTY")
	case s.Take > use.TakeForce:
		return fmt.Errorf("take %d is not known", s.Take)
	}
	return nil
}

func count(is ...bool) (n int) {
	for _, yes := range is {
		if yes {
			n++
		}
	}
	return n
}

// kind is what OPEN tells the owner.
func (s Spec) kind() string {
	switch {
	case s.PTY != nil:
		return "pty"
	case s.RFC2217 != "":
		return "rfc2217"
	}
	return "tcp"
}

// where is what only one attachment can have.
func (s Spec) where() string {
	if s.PTY != nil {
		return s.PTY.Link
	}
	return s.address()
}

// address is what a listener listens on.
func (s Spec) address() string { return s.TCP + s.RFC2217 }

// ErrNotRunning is returned by what needs a running Attacher.
var ErrNotRunning = fmt.Errorf("attacher is not running: %w", net.ErrClosed)

// ErrPlaceTaken is wrapped when two attachments want one link or address.
var ErrPlaceTaken = errors.New("another attachment is there")

// ErrNoAttachment is wrapped by Detach.
var ErrNoAttachment = errors.New("no such attachment")

// Attacher opens remote devices locally. Run runs one goroutine per
// attachment, two more per application that uses one, and joins them before
// it returns. All methods are safe for concurrent use.
type Attacher struct {
	config Config
	each   use.Config // of its uses
	opener *remote.Opener

	mu sync.Mutex
	// child makes a context that ends with Run, workers are joined by it;
	// both are nil while it does not run.
	child       func() (context.Context, context.CancelFunc)
	workers     *sync.WaitGroup
	attachments map[string]*attachment
}

// New returns an Attacher that does nothing until Run.
func New(config Config) *Attacher {
	config = config.withDefaults()
	a := &Attacher{
		config: config, attachments: map[string]*attachment{},
		each: use.Config{Resolve: config.Resolve, Watch: config.Watch, Dial: config.Dial, Hold: config.Hold, Window: config.Window},
	}
	a.opener = remote.NewOpener(&a.each, config.Logger, a.within)
	return a
}

// Run keeps the attachments until ctx is done, and returns nil then. Those
// made before are set up at its start; one that fails is tried again.
func (a *Attacher) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	a.mu.Lock()
	if a.child != nil {
		a.mu.Unlock()
		return errors.New("run attacher: it is running")
	}
	ctx, end := ending(ctx)
	defer end()
	a.child = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	a.workers = &workers
	a.releaseLocked() // first: another may have the place now
	for _, id := range slices.Sorted(maps.Keys(a.attachments)) {
		a.startLocked(a.attachments[id])
	}
	a.mu.Unlock()
	<-ctx.Done()
	a.mu.Lock()
	a.child, a.workers = nil, nil
	a.mu.Unlock()
	workers.Wait()
	return nil
}

// startLocked runs the attachment on the workers of Run. mu is held.
func (a *Attacher) startLocked(t *attachment) {
	ctx, cancel := a.child()
	stopped := make(chan struct{})
	t.cancel, t.stopped = cancel, stopped
	a.workers.Go(func() {
		defer close(stopped)
		defer cancel()
		t.run(ctx)
	})
}

// Attach makes an attachment. If Run is running it waits until the link or
// the listener stands, which takes no time, and fails if they cannot be made;
// otherwise Run makes them. The same attachment again changes nothing.
func (a *Attacher) Attach(s Spec) (use.Status, error) {
	if err := s.check(); err != nil {
		return use.Status{}, fmt.Errorf("attach %q: %w", s.Device, err)
	}
	a.mu.Lock()
	for _, other := range a.attachments {
		if other.spec.where() != s.where() || strings.HasSuffix(s.where(), ":0") {
			continue
		}
		if other.spec.Device == s.Device && (s.ID == "" || s.ID == other.spec.ID) {
			a.mu.Unlock()
			return other.status(), nil
		}
		a.mu.Unlock()
		return use.Status{}, fmt.Errorf("attach %q at %s: %w: %s", s.Device, s.where(), ErrPlaceTaken, other.spec.ID)
	}
	if s.ID == "" {
		s.ID = a.freeID(s)
	}
	if _, taken := a.attachments[s.ID]; taken {
		a.mu.Unlock()
		return use.Status{}, fmt.Errorf("attach %q as %q: %w", s.Device, s.ID, ErrPlaceTaken)
	}
	t := newAttachment(a, s)
	a.attachments[s.ID] = t
	running := a.child != nil
	if running {
		a.startLocked(t)
	}
	stopped := t.stopped
	a.mu.Unlock()
	if !running {
		return t.status(), nil
	}
	select {
	case <-t.ready:
	case <-stopped:
	}
	if err := t.setupError(); err != nil {
		_ = a.Detach(s.ID)
		return use.Status{}, fmt.Errorf("attach %q: %w", s.Device, err)
	}
	return t.status(), nil
}

// freeID makes an ID of the attachment's place. mu is held.
func (a *Attacher) freeID(s Spec) string {
	base := s.where()
	id := base
	for n := 2; a.attachments[id] != nil; n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	return id
}

// Detach ends an attachment: its link or listener is gone and its session
// closed when it returns. Its error wraps ErrNoAttachment.
func (a *Attacher) Detach(id string) error {
	a.mu.Lock()
	t, ok := a.attachments[id]
	delete(a.attachments, id)
	if !ok {
		a.mu.Unlock()
		return fmt.Errorf("detach %q: %w", id, ErrNoAttachment)
	}
	cancel, stopped := t.cancel, t.stopped
	a.mu.Unlock()
	if cancel != nil {
		cancel()
		<-stopped
	}
	return nil
}

// Statuses returns all attachments, sorted by ID.
func (a *Attacher) Statuses() []use.Status {
	a.mu.Lock()
	all := make([]*attachment, 0, len(a.attachments))
	for _, t := range a.attachments {
		all = append(all, t)
	}
	a.mu.Unlock()
	statuses := make([]use.Status, 0, len(all))
	for _, t := range all {
		statuses = append(statuses, t.status())
	}
	slices.SortFunc(statuses, func(x, y use.Status) int { return strings.Compare(x.ID, y.ID) })
	return statuses
}

// ending returns a context that ends with ctx, and by use.ErrEnds.
func ending(ctx context.Context) (context.Context, func()) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(use.ErrEnds) })
	return inner, func() {
		stop()
		cancel(nil)
	}
}
