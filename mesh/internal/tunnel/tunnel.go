package tunnel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
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

// Config is what a Tunnel needs. Socket, Deliver and Control must be set.
type Config struct {
	Cluster identity.ClusterID
	Self    identity.NodeID
	Private identity.WireGuardPrivate // of this start
	Socket  Socket

	// Deliver gets each datagram from a member. payload is valid only during
	// the call.
	Deliver func(from identity.NodeID, kind byte, payload []byte)
	// Control gets each datagram on the socket that is not WireGuard's, under
	// the same rule.
	Control func(datagram []byte, from netip.AddrPort, local netip.Addr)
	// WantPath is called when something should go to a member that has no
	// route, often; nil ignores it.
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
	stats Stats
	wake  chan struct{}
	dead  chan error // why reception has ended

	mu     sync.Mutex // guards what follows, and every change of table
	device *device.Device
	keys   map[identity.NodeID]identity.WireGuardKey
	table  atomic.Pointer[table]
}

// table is what the data path reads; it is replaced whole.
type table struct {
	byID  map[identity.NodeID]*link
	byIID map[[8]byte]*link // by the lower half of the mesh address
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
		cfg:  cfg,
		log:  cfg.Logger,
		wake: make(chan struct{}, 1),
		keys: make(map[identity.NodeID]identity.WireGuardKey),
	}
	t.table.Store(&table{})
	t.ep = newEndpoint(cfg.Cluster.Address(cfg.Self), &t.stats, t.deliver)
	t.bind = newBind(t)
	t.bind.strangers.setKey(cfg.Private.Public())
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

// adopt gives a new device our key and the peers that were set before.
func (t *Tunnel) adopt(dev *device.Device) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.device = dev
	private := t.cfg.Private.Bytes()
	if err := dev.IpcSet("private_key=" + hex.EncodeToString(private[:]) + "\n"); err != nil {
		return err
	}
	for id, key := range t.keys {
		if err := dev.IpcSet(t.peerLines(id, key)); err != nil {
			return err
		}
		t.keep(key)
	}
	return nil
}

// keep shows a new peer to a socket that wants to keep it reachable: memnet's
// does, because wireguard-go drains a peer's channels in a finalizer, which
// the runtime does not allow for the channels of a testing/synctest bubble.
func (t *Tunnel) keep(key identity.WireGuardKey) {
	if k, ok := t.cfg.Socket.(interface{ Keep(any) }); ok {
		k.Keep(t.device.LookupPeer(device.NoisePublicKey(key)))
	}
}

// SetPeer adds a member, or gives it another WireGuard key: the new peer takes
// the /128 first, then the old one is removed, in one configuration call, so
// that no packet finds a hole. Its route stays.
func (t *Tunnel) SetPeer(id identity.NodeID, key identity.WireGuardKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, had := t.keys[id]
	if had && old == key {
		return nil
	}
	l := t.link(id)
	if l == nil {
		if clash := t.table.Load().byIID[[8]byte(id[:8])]; clash != nil {
			return fmt.Errorf("add peer %s: its mesh address is that of %s", id, clash.id)
		}
		l = &link{id: id, first: t.cfg.Self.Compare(id) < 0}
		l.init.settle()
		t.change(func(next *table) {
			next.byID[id] = l
			next.byIID[[8]byte(id[:8])] = l
		})
	}
	l.renew() // what it has was made for the old key
	t.keys[id] = key
	if t.device == nil {
		return nil
	}
	lines := t.peerLines(id, key)
	if had {
		lines += "public_key=" + hex.EncodeToString(old[:]) + "\nremove=true\n"
	}
	if err := t.device.IpcSet(lines); err != nil {
		return fmt.Errorf("set peer %s: %w", id, err)
	}
	t.keep(key)
	return nil
}

// Rekey gives the device another private key. All WireGuard sessions end; new
// handshakes are made as soon as there is something to send. Peers that do not
// know the new key yet drop them.
func (t *Tunnel) Rekey(private identity.WireGuardPrivate) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg.Private = private
	t.bind.strangers.setKey(private.Public())
	for _, l := range t.table.Load().byID {
		l.renew()
	}
	if t.device == nil {
		return nil
	}
	key := private.Bytes()
	if err := t.device.IpcSet("private_key=" + hex.EncodeToString(key[:]) + "\n"); err != nil {
		return fmt.Errorf("change WireGuard key: %w", err)
	}
	return nil
}

// renew forgets what belongs to a pair of keys.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init.settle()
	l.wall = time.Time{}
}

func (t *Tunnel) peerLines(id identity.NodeID, key identity.WireGuardKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%s\n", hex.EncodeToString(key[:]))
	fmt.Fprintf(&b, "endpoint=%s%s\n", endpointPrefix, id)
	fmt.Fprintf(&b, "allowed_ip=%s/128\n", t.cfg.Cluster.Address(id))
	return b.String()
}

// RemovePeer forgets a member and its route.
func (t *Tunnel) RemovePeer(id identity.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, had := t.keys[id]
	if !had {
		return
	}
	delete(t.keys, id)
	t.change(func(next *table) {
		delete(next.byID, id)
		delete(next.byIID, [8]byte(id[:8]))
	})
	if t.device != nil {
		if err := t.device.IpcSet("public_key=" + hex.EncodeToString(key[:]) + "\nremove=true\n"); err != nil {
			t.log.Warn("remove peer failed", "node", id.Short(), "err", err)
		}
	}
}

// Peers returns the members that are peers now, in no order.
func (t *Tunnel) Peers() []identity.NodeID {
	return slices.Collect(maps.Keys(t.table.Load().byID))
}

// HasPeer reports whether the member is a peer now.
func (t *Tunnel) HasPeer(id identity.NodeID) bool { return t.link(id) != nil }

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

// Send sends one datagram to a peer, waiting for room in the queue. It returns
// ErrNoPeer, ErrTooLong or net.ErrClosed; nil does not mean that it arrives.
func (t *Tunnel) Send(to identity.NodeID, kind byte, payload []byte) error {
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
	if t.link(to) == nil {
		return nil, ErrNoPeer
	}
	return t.ep.build(t.cfg.Cluster.Address(to), kind, head, payload), nil
}

// Inject hands over a WireGuard message that a member passed on to us. It never
// waits and does not keep message; where the queue is full it is dropped and
// counted.
func (t *Tunnel) Inject(message []byte) {
	if len(message) > relayedMax {
		return
	}
	m := t.bind.pool.Get().(*relayed)
	m.n = copy(m.buf[:], message)
	select {
	case t.bind.relayed <- m:
	default:
		t.bind.pool.Put(m)
		t.stats.RelayQueueFull.Add(1)
	}
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

func (t *Tunnel) link(id identity.NodeID) *link { return t.table.Load().byID[id] }

// change replaces the table by a changed copy; t.mu is held.
func (t *Tunnel) change(edit func(*table)) {
	old := t.table.Load()
	next := &table{
		byID:  make(map[identity.NodeID]*link, len(old.byID)+1),
		byIID: make(map[[8]byte]*link, len(old.byIID)+1),
	}
	for id, l := range old.byID {
		next.byID[id] = l
		next.byIID[[8]byte(id[:8])] = l
	}
	edit(next)
	t.table.Store(next)
}
