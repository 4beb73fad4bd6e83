package gossip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serialspan/serialspan/mesh/identity"
)

// State says what the cluster thinks of a member.
type State int

// The states. memberlist does not show its suspects: they are Alive.
const (
	Alive State = iota + 1
	Left        // has said farewell
	Dead        // has not answered, and did not refute in time
)

// String returns "alive", "left" or "dead".
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Left:
		return "left"
	case Dead:
		return "dead"
	default:
		return "state " + strconv.Itoa(int(s))
	}
}

// Member is what is known of one member.
type Member struct {
	ID    identity.NodeID
	State State
	Meta  []byte // its record; not to be changed
}

// Stats counts what was dropped since New.
type Stats struct {
	Vetoed   uint64 // alive messages with an invalid record, name or address
	Frames   uint64 // user messages that were malformed or of unknown type
	Messages uint64 // broadcasts that OnMessage was too slow for
	Records  uint64 // records that OnRecord was too slow for
}

// ErrNotRunning is returned before Run has started and after it has ended.
var ErrNotRunning = fmt.Errorf("gossip is not running: %w", net.ErrClosed)

// Gossip is the membership. Make it with New, run it with Run, once. It is safe
// for concurrent use.
type Gossip struct {
	cfg       Config
	run       [8]byte
	transport *transport
	queue     memberlist.TransmitLimitedQueue

	ready chan struct{} // closed when list is there
	done  chan struct{} // closed when Run is about to end
	list  *memberlist.Memberlist

	// life is held to read by calls that must not meet a memberlist that is
	// shut down, and to write by the shutdown.
	life sync.RWMutex

	// mu is a leaf: nothing is called with it held. memberlist calls the
	// delegate with its own locks held.
	mu       sync.Mutex
	started  bool
	members  map[identity.NodeID]*member
	expelled map[identity.NodeID]bool
	seen     seen
	queued   map[string]uint32 // counter of the newest message of a name and run
	counter  uint32
	changed  time.Time // monotonic: when state or record of a member last did
	heard    heard
	stats    Stats
	pending  pending
	wake     chan struct{} // capacity 1: pending has something

	living   []identity.NodeID // members that are alive, in no order; nil: to be computed
	near     []identity.NodeID // neighbours in the overlay; nil: to be computed
	sum      *[8]byte          // see summary; nil: to be computed
	rumours  rumours
	flooding []flooded     // to be passed on
	floods   chan struct{} // capacity 1: flooding has something
}

// member is a row of the table; all members ever heard of stay in it.
type member struct {
	state    State // 0: not yet, only verified
	meta     []byte
	row      [8]byte // what it adds to the summary
	verified []byte  // the last valid record, to verify each only once
	farewell recordHash
	parting  bool // farewell is set
}

// pending is what Run's dispatcher has to tell.
type pending struct {
	records  []Member
	messages [][]byte
	changed  map[identity.NodeID]struct{} // members
	update   bool                         // UpdateMeta was called
	differs  identity.NodeID              // the last member whose digest of Config.Digest is another
}

// New checks the configuration. It starts nothing and sends nothing.
func New(cfg Config) (*Gossip, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg:     cfg,
		ready:   make(chan struct{}),
		done:    make(chan struct{}),
		members: make(map[identity.NodeID]*member),
		queued:  make(map[string]uint32),
		wake:    make(chan struct{}, 1),

		floods: make(chan struct{}, 1),
	}
	if _, err := rand.Read(g.run[:]); err != nil {
		return nil, fmt.Errorf("make gossip run: %w", err)
	}
	g.transport = newTransport(g)
	if err := g.SetKeys([][32]byte{g.cfg.Key}); err != nil {
		return nil, err
	}
	g.queue.RetransmitMult = repeats
	g.queue.NumNodes = g.alive
	return g, nil
}

// Run takes part until ctx ends, joins its own goroutines and returns nil;
// memberlist's end by themselves (see the package comment). Without
// Leave before, the others take this node for dead. It returns an error if
// Packets or AcceptStream fails.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	started := g.started
	g.started = true
	g.mu.Unlock()
	if started {
		return errors.New("run gossip: it has run before")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	list, err := memberlist.Create(g.memberlistConfig())
	if err != nil {
		close(g.done)
		return fmt.Errorf("create memberlist: %w", err)
	}
	g.list = list
	close(g.ready)
	wg.Go(func() { cancel(g.transport.readPackets()) })
	wg.Go(func() { cancel(g.transport.acceptStreams(ctx)) })
	wg.Go(func() { g.dispatch(ctx) })
	wg.Go(func() { g.repair(ctx) })
	wg.Go(func() { g.flood(ctx) })

	<-ctx.Done()
	close(g.done)
	g.transport.halt()
	g.life.Lock()       // calls that began before are over
	_ = list.Shutdown() // always nil
	g.life.Unlock()
	wg.Wait()
	_ = g.cfg.Packets.SetReadDeadline(time.Time{}) // leave it as it was
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("run gossip: %w", err)
	}
	return nil
}

// use returns the memberlist and keeps it from being shut down until release is
// called. It waits for Run to start.
func (g *Gossip) use(ctx context.Context) (list *memberlist.Memberlist, release func(), err error) {
	if err := g.running(ctx); err != nil {
		return nil, nil, err
	}
	g.life.RLock()
	if g.ended() {
		g.life.RUnlock()
		return nil, nil, ErrNotRunning
	}
	return g.list, g.life.RUnlock, nil
}

// running waits for Run to start.
func (g *Gossip) running(ctx context.Context) error {
	select {
	case <-g.ready:
	case <-g.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if g.ended() {
		return ErrNotRunning
	}
	return nil
}

func (g *Gossip) ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Join exchanges the full state with the given members, several at a time, and
// so makes this node a member where they are. It waits for Run to start and
// blocks until all answered or ctx ended. The error is nil if at least one
// answered or none was given. Joining members that are alive does no harm.
func (g *Gossip) Join(ctx context.Context, ids []identity.NodeID) error {
	const atOnce = 4
	var (
		mu     sync.Mutex
		errs   []error
		joined int
		wg     sync.WaitGroup
		slots  = make(chan struct{}, atOnce)
	)
	for _, id := range ids {
		if id == g.cfg.Self {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := g.joinOne(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("join member %s: %w", id, err))
			} else {
				joined++
			}
		})
	}
	wg.Wait()
	if joined > 0 {
		return nil
	}
	return errors.Join(errs...)
}

func (g *Gossip) joinOne(ctx context.Context, id identity.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Intervals.Stream)
	defer cancel()
	if err := g.running(ctx); err != nil {
		return err
	}
	conn, err := g.transport.dial(ctx, id)
	if err != nil {
		return err
	}
	defer conn.Close() // memberlist has closed it, if all went well
	list, release, err := g.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	// memberlist knows no contexts: it finds the stream ready, and closing it
	// is what ends the exchange early.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer g.transport.prepare(id, conn)()
	_, err = list.Join([]string{fmt.Sprintf("%s/[%s]:%d", id, g.cfg.Address(id), port)})
	return err
}

// Members returns all members ever heard of, this node included, sorted by
// NodeID.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.members))
	for id, m := range g.members {
		if m.state != 0 {
			out = append(out, Member{ID: id, State: m.state, Meta: m.meta})
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return a.ID.Compare(b.ID) })
	return out
}

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// Forget takes a member that is not alive off the list. A later record brings
// it back.
func (g *Gossip) Forget(id identity.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m, ok := g.members[id]; ok && m.state != Alive {
		delete(g.members, id) // it was in none of living, near and sum
	}
}

// Broadcast floods a message of at most MaxMessage bytes to all members, best
// effort. A newer message of the same name (at most MaxName bytes) replaces an
// older one that is still being passed on. It does not block and may be called
// before Run. The message is not kept. One that was sent or told within the last
// half minute is not sent again: many members may broadcast what they have
// learned, and the cluster hears of it once.
func (g *Gossip) Broadcast(name string, body []byte) error {
	now := time.Now()
	g.mu.Lock()
	g.counter++
	m := message{run: g.run, counter: g.counter, name: name, body: body}
	frame, err := m.encode()
	if err != nil {
		g.mu.Unlock()
		return err
	}
	fresh := g.seen.add(now, name, body)
	key := g.supersede(m)
	g.mu.Unlock()
	if !fresh {
		return nil
	}
	g.spread(key, frame)
	return nil
}

// UpdateMeta tells the others that Meta has changed. It does not block.
func (g *Gossip) UpdateMeta() {
	g.mu.Lock()
	g.pending.update = true
	g.mu.Unlock()
	g.signal()
}

// Leave tells the others that this node leaves in order, so that they do not
// take it for dead, and blocks until they were told or the time-out. The caller
// ends Run afterwards; Run does not end before Leave has returned.
func (g *Gossip) Leave(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	list, release, err := g.use(ctx)
	if err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	defer release()
	f := farewell{id: g.cfg.Self}
	g.mu.Lock()
	self := g.member(f.id)
	f.record = hashRecord(self.meta)
	self.parting, self.farewell = true, f.record
	g.mu.Unlock()
	g.spreadFarewell(f)
	err = list.Leave(timeout)
	g.floodNow(time.Now()) // Run may end before the pause does
	if g.alive() > 1 {
		// What was sent last is still being sealed, or waits for a handshake.
		select {
		case <-time.After(g.cfg.Intervals.Gossip):
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	return nil
}

// alive is how many members there are, for the number of repeats.
func (g *Gossip) alive() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.aliveNow(), 1)
}
