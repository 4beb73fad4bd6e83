package registrysync

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// Protocol is the name of the stream protocol.
const Protocol = "registry/1"

const (
	defaultInterval    = 30 * time.Second
	defaultIdleTimeout = 10 * time.Second
)

// Config is what an Engine is made of. Registry, Peers, Dial and Accept are
// required.
type Config struct {
	// Registry is the replica to keep in step.
	Registry *registry.Registry
	// Self is this node.
	Self identity.NodeID
	// Peers returns the members that are alive, without this node, in any
	// order. It must not block.
	Peers func() []identity.NodeID
	// Dial opens a stream of Protocol to a member.
	Dial func(ctx context.Context, to identity.NodeID) (net.Conn, error)
	// Accept returns the next stream of Protocol and the member that opened
	// it. An error ends Run.
	Accept func(ctx context.Context) (net.Conn, identity.NodeID, error)
	// Broadcast sends a message to all members; of two messages of one name
	// the newer replaces the older. It must not block. Default: no broadcasts.
	Broadcast func(name string, msg []byte)
	// Interval is the mean time between comparisons with a random member.
	// Default 30 s; each wait is between 0.75 and 1.25 of it. With a carrier
	// that compares Digests it can be minutes.
	Interval time.Duration
	// IdleTimeout is how long the other side of an exchange may be silent.
	// Default 10 s.
	IdleTimeout time.Duration
	// Now is the monotonic time since process start, the same that is handed
	// to the registry elsewhere. Default: since New.
	Now func() time.Duration
	// Logger gets the events. Default: they are discarded.
	Logger *slog.Logger
}

// Engine keeps one registry in step. Its methods are safe for concurrent use.
type Engine struct {
	cfg Config
	log *slog.Logger

	members chan struct{} // capacity 1: the membership changed
	hints   chan struct{} // capacity 1: hinted is not empty
	differs chan struct{} // capacity 1: differing is set
	foreign sync.Once

	mu        sync.Mutex // guards what follows
	hinted    map[identity.NodeID]struct{}
	differing identity.NodeID // the last member known to hold something else

	// publishing orders what is signed and what is broadcast.
	publishing sync.Mutex
}

// New returns an Engine that does nothing before Run but broadcast and merge.
// It panics if a required field of cfg is missing.
func New(cfg Config) *Engine {
	if cfg.Registry == nil || cfg.Peers == nil || cfg.Dial == nil || cfg.Accept == nil {
		panic("registrysync: Config lacks Registry, Peers, Dial or Accept")
	}
	if cfg.Broadcast == nil {
		cfg.Broadcast = func(string, []byte) {}
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = defaultIdleTimeout
	}
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() time.Duration { return time.Since(start) }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{
		cfg: cfg, log: cfg.Logger,
		members: make(chan struct{}, 1),
		hints:   make(chan struct{}, 1),
		differs: make(chan struct{}, 1),
		hinted:  make(map[identity.NodeID]struct{}),
	}
}

// Publish makes devices this node's devices and broadcasts what changed. It
// must be called once after a start even if there are none. The error is that
// of registry.Registry.Publish: what could be published was.
func (e *Engine) Publish(devices []registry.Device) error {
	return e.announce(func(now time.Duration) ([]registry.Message, error) { return e.cfg.Registry.Publish(now, devices) })
}

// SetEpoch hands the epoch to the registry and broadcasts what was signed
// again. It must be called once before the first Publish.
func (e *Engine) SetEpoch(epoch uint64) error {
	return e.announce(func(now time.Duration) ([]registry.Message, error) { return e.cfg.Registry.SetEpoch(now, epoch) })
}

func (e *Engine) announce(sign func(now time.Duration) ([]registry.Message, error)) error {
	e.publishing.Lock()
	defer e.publishing.Unlock()
	messages, err := sign(e.cfg.Now())
	for _, m := range messages {
		e.cfg.Broadcast(m.Topic, m.Wire)
	}
	return err
}

// OnBroadcast takes a broadcast that arrived. The carrier brings it to all
// members by itself, so it is not passed on. It does not keep msg and does not
// block.
func (e *Engine) OnBroadcast(msg []byte) {
	merged, err := e.cfg.Registry.Merge(e.cfg.Now(), msg)
	if err != nil {
		e.log.Debug("registry broadcast not taken", "err", err)
		return
	}
	switch merged.Outcome {
	case registry.Foreign:
		e.warnForeign()
	case registry.Behind:
		e.hint(merged.Owner)
	}
}

// Knows reports whether a broadcast would tell this node nothing. It need not be
// passed on then: who broadcasts what a comparison has brought means those that
// lack it too.
func (e *Engine) Knows(msg []byte) bool { return e.cfg.Registry.Knows(msg) }

// MembersChanged tells that Peers returns something else. It does not block.
func (e *Engine) MembersChanged() { poke(e.members) }

// Digest stands for all that the registry holds, for a carrier that compares
// those of members; OnDiffer takes what it finds.
func (e *Engine) Digest() [8]byte {
	root := e.cfg.Registry.Root()
	return [8]byte(root[:8])
}

// OnDiffer tells of a member whose Digest is another. It does not block.
func (e *Engine) OnDiffer(peer identity.NodeID) {
	e.mu.Lock()
	e.differing = peer
	e.mu.Unlock()
	poke(e.differs)
}

func (e *Engine) hint(owner identity.NodeID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hinted[owner] = struct{}{}
	poke(e.hints)
}

func (e *Engine) takeHinted() []identity.NodeID {
	e.mu.Lock()
	defer e.mu.Unlock()
	owners := make([]identity.NodeID, 0, len(e.hinted))
	for id := range e.hinted {
		owners = append(owners, id)
	}
	clear(e.hinted)
	return owners
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// warnForeign says once that somebody else signs with this node's identity.
func (e *Engine) warnForeign() {
	e.foreign.Do(func() {
		e.log.Warn("newer devices of this node were published by another process: its state directory was restored or copied", "node", e.cfg.Self)
	})
}

// Run compares and accepts comparisons until ctx is done, and then returns
// nil, or until Accept fails. It is called once.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	var failed error
	parts.Go(func() {
		if err := e.accept(ctx); err != nil {
			failed = fmt.Errorf("accept registry stream: %w", err)
			cancel(failed)
		}
	})
	newLoop(e).run(ctx)
	cancel(nil)
	parts.Wait()
	return failed
}
