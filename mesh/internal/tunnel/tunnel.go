package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// ErrNoPeer is returned by Send for a member that SetPeer was not called for.
var ErrNoPeer = errors.New("not a peer of the tunnel")

// ErrTooLong is returned by Send for a payload longer than MaxPayload.
var ErrTooLong = errors.New("datagram too long")

// Silent is how long nothing may go to and come from a peer before its route is
// looked at again: a router on the way may have forgotten it.
const Silent = 25 * time.Second

// Config is what a Tunnel needs. Socket, Deliver and Control must be set.
type Config struct {
	Cluster identity.ClusterID        // whose addresses the members have
	Self    identity.NodeID           // this node
	Private identity.WireGuardPrivate // of this start
	Socket  Socket

	// Deliver gets each datagram from a member. payload is valid only during
	// the call.
	Deliver func(from identity.NodeID, kind byte, payload []byte)
	// Control gets each datagram on the socket that is not WireGuard's, under
	// the same rule.
	Control func(datagram []byte, from netip.AddrPort, local netip.Addr, link int)
	// WantPath is called when something should go to a member that has no
	// route, often, and when something goes on one that was silent for Silent;
	// nil ignores it.
	WantPath func(identity.NodeID)
	// Handshaking is called when an initiation was made for a member. It should
	// be told by a probe: it may have removed us as an idle peer, and if it is
	// the smaller NodeID it should initiate. Nil ignores it.
	Handshaking func(identity.NodeID)
	// RelayKind is the kind of the datagrams that ask a member to pass a
	// message on: NodeID of the receiver ‖ message. They are sent for peers
	// whose route leads through a member.
	RelayKind byte
	// KeyBurnt is called when our WireGuard key cannot be used for handshakes
	// any more, because the wall clock went back; Rekey must follow. Nil
	// ignores it.
	KeyBurnt func()
	// Now is the monotonic clock of Activity; nil is the time since New.
	Now func() time.Duration
	// Wall is the clock that wireguard-go stamps its handshakes with; nil is
	// time.Now, which it is.
	Wall func() time.Time

	Logger *slog.Logger // nil discards
}

// Tunnel is the node's WireGuard device. Its methods are safe for concurrent
// use; before and after Run, Send fails with net.ErrClosed.
type Tunnel struct {
	cfg   Config
	log   *slog.Logger
	ep    *endpoint
	bind  *bind
	bare  bare
	stats Stats
	wake  chan struct{}
	dead  chan error // why reception has ended

	mu     sync.Mutex // guards what follows, and every change of table
	device *device.Device
	keys   map[identity.NodeID]identity.WireGuardKey
	walls  map[identity.NodeID]stamp // of removed peers, for our present key
	table  atomic.Pointer[table]
}

// New returns a tunnel without peers.
func New(cfg Config) *Tunnel {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.WantPath == nil {
		cfg.WantPath = func(identity.NodeID) {}
	}
	if cfg.Handshaking == nil {
		cfg.Handshaking = func(identity.NodeID) {}
	}
	if cfg.KeyBurnt == nil {
		cfg.KeyBurnt = func() {}
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() time.Duration { return time.Since(start) }
	}
	t := &Tunnel{
		cfg:   cfg,
		log:   cfg.Logger,
		wake:  make(chan struct{}, 1),
		keys:  make(map[identity.NodeID]identity.WireGuardKey),
		walls: make(map[identity.NodeID]stamp),
	}
	t.table.Store(&table{})
	t.bare.init()
	t.ep = newEndpoint(cfg.Cluster.Address(cfg.Self), &t.stats, t.deliver)
	t.bind = newBind(t)
	t.bind.setKey(cfg.Private.Public())
	return t
}

func (t *Tunnel) now() time.Duration { return t.cfg.Now() }

// Stats returns the tunnel's counters.
func (t *Tunnel) Stats() *Stats { return &t.stats }

// Run carries datagrams until ctx ends, and then returns nil; it fails if the
// socket is closed before. It may be called once.
func (t *Tunnel) Run(ctx context.Context) error {
	dev := device.NewDevice(t.ep, t.bind, &device.Logger{
		Verbosef: func(format string, args ...any) {
			if t.log.Enabled(ctx, slog.LevelDebug-4) {
				t.log.Log(ctx, slog.LevelDebug-4, "wireguard", "detail", fmt.Sprintf(format, args...))
			}
		},
		Errorf: func(format string, args ...any) {
			t.log.Warn("wireguard", "detail", fmt.Sprintf(format, args...))
		},
	})
	defer dev.Close()
	dev.DisableSomeRoamingForBrokenMobileSemantics()
	if err := t.adopt(dev); err != nil {
		return fmt.Errorf("start tunnel: %w", err)
	}
	if err := dev.Up(); err != nil {
		return fmt.Errorf("start tunnel: %w", err)
	}
	defer func() {
		t.mu.Lock()
		t.device = nil
		t.mu.Unlock()
	}()
	return t.repeatLoop(ctx)
}

// fail makes Run end with an error.
func (t *Tunnel) fail(err error) {
	select {
	case t.dead <- err:
	default:
	}
}

// SetRoute says where datagrams for a peer go from now on; the zero Route
// takes the path away. A held initiation leaves at once on a new route.
func (t *Tunnel) SetRoute(id identity.NodeID, r peering.Route) {
	l := t.link(id)
	if l == nil {
		return
	}
	if r.IsZero() {
		l.route.Store(nil)
		t.bind.strangers.setRemotes(t.table.Load())
		return
	}
	l.route.Store(&r)
	t.bind.strangers.setRemotes(t.table.Load())
	l.mu.Lock()
	out := l.init.take(t.now(), true)
	l.mu.Unlock()
	if out != nil {
		t.bind.sendOn(l, out)
	}
	t.wakeUp()
}

// Initiate starts a handshake with a peer because it asked for one. It does
// nothing where it is the peer's turn, or where one was begun within 5 s
// (WireGuard's Rekey-Timeout): that one is repeated by itself.
func (t *Tunnel) Initiate(id identity.NodeID) {
	l := t.link(id)
	if l == nil || !l.first {
		return
	}
	t.mu.Lock()
	dev, key := t.device, t.keys[id]
	t.mu.Unlock()
	if dev == nil {
		return
	}
	if peer := dev.LookupPeer(device.NoisePublicKey(key)); peer != nil {
		if err := peer.SendHandshakeInitiation(false); err != nil {
			t.log.Warn("initiate handshake failed", "node", id.Short(), "err", err)
		}
	}
}

// Send sends one datagram to a peer, waiting for room in the queue; on a route
// through a KubeSpan it goes bare, see TypeBare. It returns
// ErrNoPeer, ErrTooLong or net.ErrClosed; nil does not mean that it arrives.
func (t *Tunnel) Send(to identity.NodeID, kind byte, payload []byte) error {
	if l, r := t.bareRoute(to); r != nil {
		return t.sendBare(l, r, kind, nil, payload)
	}
	p, err := t.packet(to, kind, nil, payload)
	if err != nil {
		return err
	}
	return t.ep.send(p)
}

// TrySend is Send for callers that must not wait: it drops and counts where
// the queue is full.
func (t *Tunnel) TrySend(to identity.NodeID, kind byte, payload []byte) error {
	return t.trySend(to, kind, nil, payload)
}

// TryRelay is TrySend of a message together with the NodeID of the member it
// is for, or from: payload = NodeID ‖ message.
func (t *Tunnel) TryRelay(to identity.NodeID, kind byte, id identity.NodeID, message []byte) error {
	return t.trySend(to, kind, id[:], message)
}

func (t *Tunnel) trySend(to identity.NodeID, kind byte, head, payload []byte) error {
	if l, r := t.bareRoute(to); r != nil {
		return t.sendBare(l, r, kind, head, payload)
	}
	p, err := t.packet(to, kind, head, payload)
	if err != nil {
		return err
	}
	t.ep.trySend(p)
	return nil
}

func (t *Tunnel) packet(to identity.NodeID, kind byte, head, payload []byte) (*packet, error) {
	select {
	case <-t.ep.closed:
		return nil, net.ErrClosed
	default:
	}
	if len(head)+len(payload) > MaxPayload {
		return nil, ErrTooLong
	}
	l := t.link(to)
	if l == nil {
		return nil, ErrNoPeer
	}
	return t.ep.build(l.addr, kind, head, payload), nil
}

// Inject hands over a WireGuard message that a member passed on to us. It never
// waits and does not keep message; where the queue is full it is dropped and
// counted.
func (t *Tunnel) Inject(message []byte) {
	if len(message) > relayedMax {
		return
	}
	t.bind.queue(message, nil)
}

// Activity returns when data last left for a peer and last came from it, on
// the clock of Config.Now; zero where it never did.
func (t *Tunnel) Activity(id identity.NodeID) (sent, heard time.Duration) {
	if l := t.link(id); l != nil {
		return time.Duration(l.sent.Load()), time.Duration(l.heard.Load())
	}
	return 0, 0
}

func (t *Tunnel) deliver(from [8]byte, kind byte, payload []byte) {
	l := t.table.Load().byIID[from]
	if l == nil {
		return // removed while the packet was on its way
	}
	l.heard.Store(int64(t.now()))
	t.cfg.Deliver(l.id, kind, payload)
}
