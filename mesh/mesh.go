package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/internal/plane"
	"github.com/serialspan/serialspan/mesh/internal/probe"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
	"github.com/serialspan/serialspan/mesh/roster"
)

const (
	gossipProtocol = "gossip/1"

	// controlQueue bounds the probes and the join messages that wait, each.
	controlQueue = 256
	// leaveTimeout bounds how long a clean stop waits to tell the others: six
	// rounds of gossip.
	leaveTimeout = 1500 * time.Millisecond
	// saveInterval is how often the list of known members may be written.
	saveInterval = 10 * time.Minute
)

// Mesh is this node's part in the cluster. Make one with New, then call Run
// once.
type Mesh struct {
	cfg     Config
	log     *slog.Logger
	self    identity.NodeID
	start   time.Time
	private identity.WireGuardPrivate

	roster *roster.Roster
	join   *join.Machine
	tunnel Carrier
	plane  *plane.Plane
	quic   *quicnet.Net
	gossip *gossip.Gossip

	probes, joins chan *control
	controls      sync.Pool
	signals       signals
	accepts       map[string]chan accepted
	joining       joining
	verified      verified
	counters      counters
	membership    atomic.Uint64 // see Membership
	relay         relay
	belonging     belonging
	span          span
	watch         watchers
	pongs         sync.WaitGroup
	stopped       chan struct{} // closed when Run is over
	left          sync.Once     // see Leave

	mu       sync.Mutex // guards what follows
	peering  *peering.Machine
	senders  map[probe.Sender]identity.NodeID  // of every record in the roster
	pairs    map[identity.NodeID]*probe.Pair   // of members probed or heard
	sessions map[identity.NodeID]int           // open streams, for peering
	added    map[identity.NodeID]time.Duration // when each became a peer of the tunnel
	skews    map[identity.NodeID]time.Duration // of other wall clocks, for people
	own      roster.OwnEpoch
	record   roster.Record // ours, as last signed
	seen     []netip.AddrPort
	seenAt   time.Duration
	doors    doors
	alive    map[identity.NodeID]bool          // as gossip last said
	gone     map[identity.NodeID]time.Duration // since when the others are not
	trials   map[uint64]chan<- sizeAnswer      // by token, see TryPathSize
	twin     bool
	// relaysChanged: a path or record has changed that may matter to relaying.
	relaysChanged bool
	after         []func() // to do once mu is free
}

// New makes a mesh node: it draws the WireGuard key of this start and signs the
// first record. Nothing runs and nothing is sent until Run.
func New(cfg Config) (*Mesh, error) {
	cfg = cfg.withDefaults()
	if cfg.Store == nil || cfg.Socket == nil {
		return nil, errors.New("make mesh: Config.Store and Config.Socket must be set")
	}
	id, _ := cfg.Store.Identity()
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		return nil, fmt.Errorf("make mesh: %w", err)
	}
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, self: id.ID(), start: time.Now(), private: private,
		roster:   roster.New(roster.Signed{}),
		probes:   make(chan *control, controlQueue),
		joins:    make(chan *control, controlQueue),
		controls: sync.Pool{New: func() any { return new(control) }},
		accepts:  make(map[string]chan accepted),
		stopped:  make(chan struct{}),
		peering:  peering.New(token),
		senders:  make(map[probe.Sender]identity.NodeID),
		pairs:    make(map[identity.NodeID]*probe.Pair),
		sessions: make(map[identity.NodeID]int),
		added:    make(map[identity.NodeID]time.Duration),
		skews:    make(map[identity.NodeID]time.Duration),
		alive:    make(map[identity.NodeID]bool),
		gone:     make(map[identity.NodeID]time.Duration),
		trials:   make(map[uint64]chan<- sizeAnswer),
		doors:    doors{across: make(map[identity.NodeID]bool), offers: make(map[identity.NodeID]bool)},
	}
	if err := m.recallBelonging(); err != nil {
		return nil, fmt.Errorf("make mesh: %w", err)
	}
	m.signals.init()
	m.joining.init(cfg.Join)
	for _, p := range cfg.Protocols {
		m.accepts[p] = make(chan accepted)
	}
	if err := m.firstRecord(); err != nil {
		return nil, fmt.Errorf("make mesh: %w", err)
	}
	if err := m.assemble(id); err != nil {
		return nil, fmt.Errorf("make mesh: %w", err)
	}
	m.recallMembers()
	return m, nil
}

// firstRecord signs the record of this start.
func (m *Mesh) firstRecord() error {
	m.record = roster.Record{
		Name: m.cfg.Name, WireGuard: m.private.Public(), Version: m.cfg.Version,
		Epoch: m.cfg.Store.Epoch(), Sequence: 1, Relay: m.cfg.Relay == RelayOn,
	}
	m.relay.offered.Store(m.record.Relay)
	if _, err := rand.Read(m.record.Start[:]); err != nil {
		return err
	}
	own, err := m.cfg.Addresses()
	if err != nil {
		m.log.Warn("own addresses unknown", "err", err)
	}
	m.doors.addrs = own
	m.record.Endpoints = endpoints(m.cfg.Socket.LocalAddr(), m.cfg.Advertise, own, nil)
	return m.sign()
}

// sign makes m.record the newest record of this node.
func (m *Mesh) sign() error {
	id, _ := m.cfg.Store.Identity()
	signed, err := roster.Sign(id, m.cfg.Secret.Cluster, m.record)
	if err != nil {
		return err
	}
	m.roster.SetSelf(signed)
	return nil
}

// assemble makes the parts and ties them together.
func (m *Mesh) assemble(id *identity.Identity) error {
	m.join = join.New(join.Config{
		Secret:  m.cfg.Secret,
		Private: m.private,
		Record:  m.roster.Self,
		Held:    m.roster.Get,
		Admit:   m.cfg.Admit,
		Removed: m.isRemoved,
		Known:   m.wasMember,
	})
	m.tunnel = m.cfg.Carrier(tunnel.Config{
		Cluster: m.cfg.Secret.Cluster,
		Self:    m.self,
		Private: m.private,
		Socket:  m.cfg.Socket,
		Deliver: func(from identity.NodeID, kind byte, payload []byte) {
			m.plane.Deliver(from, plane.Kind(kind), payload)
		},
		Control:     m.takeControl,
		WantPath:    m.signals.wantPath,
		Handshaking: m.signals.handshaking,
		RelayKind:   byte(plane.Relay),
		KeyBurnt:    m.signals.keyBurnt,
		Now:         m.now,
		Wall:        m.cfg.Wall,
		Logger:      m.log,
	})
	m.plane = plane.New(plane.Config{Self: m.self, Send: m.send, Relay: m.passOn, Relayed: m.takeRelayed})
	var err error
	m.quic, err = quicnet.New(quicnet.Config{
		Identity:   id,
		PacketConn: m.plane.QUIC(),
		Addr:       func(id identity.NodeID) net.Addr { return plane.Addr{ID: id} },
		NodeOf: func(addr net.Addr) (identity.NodeID, bool) {
			id, ok := plane.NodeOf(addr)
			return id, ok && !m.isRemoved(id)
		},
		Logger: m.log,
	})
	if err != nil {
		return err
	}
	for _, p := range append([]string{gossipProtocol, pingProtocol, admissionProtocol}, m.cfg.Protocols...) {
		if err := m.quic.Listen(p); err != nil {
			return err
		}
	}
	if err := m.assembleGossip(); err != nil {
		return err
	}
	m.useKeys(m.ring())
	return nil
}

// recallMembers puts the members known at the last stop into the roster.
func (m *Mesh) recallMembers() {
	records, err := m.cfg.Store.members(m.cfg.Secret.Cluster)
	if err != nil {
		m.log.Warn("list of known members damaged", "err", err, "kept", len(records))
	}
	m.do(func() {
		for _, r := range records {
			m.merge(r, hearsay)
		}
	})
}

// Run takes part in the mesh until ctx ends, then tells the others that this
// node leaves, waits a moment at most for that, and stops all parts: those that
// still have something to say to the others before those that carry it.
func (m *Mesh) Run(ctx context.Context) error {
	defer close(m.stopped)
	talking, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer hush()
	carrying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	carriers, carrying := errgroup.WithContext(carrying)
	carriers.Go(func() error { return m.tunnel.Run(carrying) })
	carriers.Go(func() error { m.controlLoop(carrying); return nil })

	talkers, talking := errgroup.WithContext(talking)
	talkers.Go(func() error { return m.quic.Run(talking) })
	talkers.Go(func() error { return m.gossip.Run(talking) })
	talkers.Go(func() error { m.joinLoop(talking); return nil })
	talkers.Go(func() error { m.gossipLoop(talking); return nil })
	talkers.Go(func() error { m.belongLoop(talking); return nil })
	talkers.Go(func() error { m.answerLoop(talking); return nil })
	talkers.Go(func() error { m.rotateLoop(talking); return nil })
	talkers.Go(func() error { m.saveLoop(talking); return nil })
	talkers.Go(func() error { m.pongLoop(talking); m.pongs.Wait(); return nil })
	if m.cfg.KubeSpan != nil {
		talkers.Go(func() error { return m.cfg.KubeSpan.Run(talking) })
		talkers.Go(func() error { m.kubeSpanLoop(talking); return nil })
	}
	if m.cfg.LAN {
		talkers.Go(func() error { m.runBeacon(talking); return nil })
	}
	for protocol, to := range m.accepts {
		talkers.Go(func() error { m.acceptLoop(talking, protocol, to); return nil })
	}
	talkers.Go(func() error {
		select {
		case <-ctx.Done():
			m.Leave()
			hush()
		case <-carrying.Done(): // the socket is gone
			hush()
		case <-talking.Done():
		}
		return nil
	})
	err := talkers.Wait()
	stop()
	if failed := carriers.Wait(); failed != nil {
		err = failed
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// saveLoop keeps the list of known members on disk.
func (m *Mesh) saveLoop(ctx context.Context) {
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			m.saveMembers()
			return
		}
		m.saveMembers()
	}
}

func (m *Mesh) saveMembers() {
	if err := m.cfg.Store.saveMembers(m.roster.Marshal()); err != nil {
		m.log.Warn("list of known members not saved", "err", err)
	}
}

// Self returns this node's NodeID.
func (m *Mesh) Self() identity.NodeID { return m.self }

// Address returns a member's mesh address.
func (m *Mesh) Address(id identity.NodeID) netip.Addr { return m.cfg.Secret.Cluster.Address(id) }

// now is the monotonic time since New.
func (m *Mesh) now() time.Duration { return time.Since(m.start) }

// do runs f with mu held, and then what f left to do without it.
func (m *Mesh) do(f func()) {
	m.mu.Lock()
	f()
	after := m.after
	m.after = nil
	m.mu.Unlock()
	for _, g := range after {
		g()
	}
}

// later leaves something to do until mu is free; mu is held.
func (m *Mesh) later(f func()) { m.after = append(m.after, f) }

// token draws the echo token of a probe.
func token() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return binary.BigEndian.Uint64(b[:])
}

// counters count what a person wants to know when something is wrong.
type counters struct {
	controlDropped atomic.Uint64 // queue full
	strangers      atomic.Uint64 // control datagrams of nobody we know
}
