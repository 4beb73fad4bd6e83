package memtunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

// WireGuard's times, and its limit of packets that wait for a handshake.
const (
	rekeyAfter     = 120 * time.Second
	rejectAfter    = 180 * time.Second
	rekeyTimeout   = 5 * time.Second
	keepaliveAfter = 10 * time.Second
	askFirst       = 2 * time.Second
	maxStaged      = 128
)

// repeatAfter are the gaps between initiations, as package tunnel repeats them.
var repeatAfter = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond, 2700 * time.Millisecond, time.Second}

// Tunnel carries datagrams between members as they are. Its methods are those
// of tunnel.Tunnel and are safe for concurrent use.
type Tunnel struct {
	cfg   tunnel.Config
	stats tunnel.Stats

	mu     sync.Mutex // guards what follows; nothing is called with it held
	closed bool
	peers  map[identity.NodeID]*peer
}

// peer is a member in use.
type peer struct {
	id          identity.NodeID
	key         identity.WireGuardKey
	route       peering.Route
	session     time.Time // of the last handshake; zero: none
	responded   time.Time // of a handshake that was answered and not confirmed yet; zero: none
	initiated   bool      // by us
	trying      time.Time // when the handshake under way began; zero: none is
	tries       int       // initiations sent in it
	staged      [][]byte  // data that waits for it
	repeat      *time.Timer
	keepalive   *time.Timer
	owes        bool // data came, and nothing has left since
	sent, heard time.Duration
}

// New returns a tunnel without peers. It wants Config.Now.
func New(cfg tunnel.Config) *Tunnel {
	if cfg.WantPath == nil {
		cfg.WantPath = func(identity.NodeID) {}
	}
	if cfg.Handshaking == nil {
		cfg.Handshaking = func(identity.NodeID) {}
	}
	return &Tunnel{cfg: cfg, closed: true, peers: make(map[identity.NodeID]*peer)}
}

// Run carries datagrams until ctx ends, and then returns nil; it fails if the
// socket is closed before.
func (t *Tunnel) Run(ctx context.Context) error {
	t.mu.Lock()
	t.closed = false
	t.mu.Unlock()
	defer t.close()
	defer context.AfterFunc(ctx, func() { _ = t.cfg.Socket.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 2048)
	for {
		n, from, local, link, err := t.cfg.Socket.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("receive datagrams: %w", err)
		case n == 0:
		case buf[0] == typeInitiation || buf[0] == typeResponse || buf[0] == typeData:
			t.receive(buf[:n])
		default:
			t.cfg.Control(buf[:n], from, local, link)
		}
	}
}

func (t *Tunnel) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, p := range t.peers {
		p.stop()
	}
}

func (p *peer) stop() {
	for _, timer := range []*time.Timer{p.repeat, p.keepalive} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// Stats returns the tunnel's counters.
func (t *Tunnel) Stats() *tunnel.Stats { return &t.stats }

// SetPeer adds a member, or gives it another key, which ends its session.
func (t *Tunnel) SetPeer(id identity.NodeID, key identity.WireGuardKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		p = &peer{id: id}
		t.peers[id] = p
	}
	if p.key != key {
		p.key = key
		p.end()
	}
	return nil
}

// RemovePeer forgets a member.
func (t *Tunnel) RemovePeer(id identity.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		p.stop()
		delete(t.peers, id)
	}
}

// HasPeer reports whether the member is a peer now.
func (t *Tunnel) HasPeer(id identity.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers[id] != nil
}

// IsStraight reports whether a member is a peer whose route goes through no
// other.
func (t *Tunnel) IsStraight(id identity.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	return p != nil && !p.route.IsZero() && !p.route.IsRelay()
}

// Peers returns the members that are peers now, in no order.
func (t *Tunnel) Peers() []identity.NodeID {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]identity.NodeID, 0, len(t.peers))
	for id := range t.peers {
		all = append(all, id)
	}
	return all
}

// Activity returns when data last left for a peer and last came from it.
func (t *Tunnel) Activity(id identity.NodeID) (sent, heard time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		return p.sent, p.heard
	}
	return 0, 0
}

// SetRoute says where datagrams for a peer go from now on. A handshake that
// waited for it begins.
func (t *Tunnel) SetRoute(id identity.NodeID, r peering.Route) {
	t.edit(id, func(p *peer, out *outbox) {
		p.route = r
		if !r.IsZero() && !p.trying.IsZero() {
			out.initiate(p)
		}
	})
}

// Initiate starts a handshake with a peer because it asked for one, unless one
// was begun within 5 s.
func (t *Tunnel) Initiate(id identity.NodeID) {
	t.edit(id, func(p *peer, out *outbox) {
		if p.trying.IsZero() || time.Since(p.trying) > rekeyTimeout {
			out.begin(p)
		}
	})
}

// Rekey ends all sessions.
func (t *Tunnel) Rekey(identity.WireGuardPrivate) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		p.end()
	}
	return nil
}

// end ends the session and a handshake under way.
func (p *peer) end() { p.session, p.responded, p.trying = time.Time{}, time.Time{}, time.Time{} }

// Send sends one datagram to a peer; it never waits.
func (t *Tunnel) Send(to identity.NodeID, kind byte, payload []byte) error {
	if len(payload) > tunnel.MaxPayload {
		return tunnel.ErrTooLong
	}
	found := t.edit(to, func(p *peer, out *outbox) { out.data(p, encode(t.cfg.Self, kind, payload)) })
	switch {
	case found:
		return nil
	case t.isClosed():
		return net.ErrClosed
	}
	return tunnel.ErrNoPeer
}

// TrySend is Send.
func (t *Tunnel) TrySend(to identity.NodeID, kind byte, payload []byte) error {
	return t.Send(to, kind, payload)
}

// TryRelay is TrySend of a message together with the NodeID of the member it
// is for or from.
func (t *Tunnel) TryRelay(to identity.NodeID, kind byte, id identity.NodeID, message []byte) error {
	return t.Send(to, kind, slices.Concat(id[:], message))
}

// Inject takes a message of a member that another passed on.
func (t *Tunnel) Inject(message []byte) {
	if len(message) > 0 {
		t.receive(message)
	}
}

// SetKubeSpan does nothing: there is no KubeSpan here.
func (t *Tunnel) SetKubeSpan(int, netip.Addr) {}

// Know does nothing: there is no KubeSpan here.
func (t *Tunnel) Know(identity.NodeID, netip.AddrPort) {}

// Unknow does nothing: there is no KubeSpan here.
func (t *Tunnel) Unknow(identity.NodeID) {}

func (t *Tunnel) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// receive takes a datagram of one of our types.
func (t *Tunnel) receive(d []byte) {
	from, kind, payload, ok := decode(d)
	if !ok {
		t.stats.Strangers.Add(1)
		return
	}
	carry := false
	found := t.edit(from, func(p *peer, out *outbox) {
		switch d[0] {
		case typeInitiation:
			p.responded = time.Now()
			if !p.trying.IsZero() {
				out.again(p, rekeyTimeout) // its handshake does for both
			}
			out.send(p, handshake(typeResponse, t.cfg.Self))
		case typeResponse:
			if !p.trying.IsZero() {
				out.establish(p, time.Now(), true)
			}
		case typeData:
			p.heard = t.cfg.Now()
			if !p.responded.IsZero() {
				out.establish(p, p.responded, false)
			}
			carry = len(d) > keepaliveLen
			if carry && !p.owes {
				out.owe(p)
			}
		}
	})
	switch {
	case !found:
		t.stats.Strangers.Add(1)
	case carry:
		t.cfg.Deliver(from, kind, payload)
	}
}

// edit changes a peer, and sends and tells afterwards what that brought about.
// It reports whether there is such a peer.
func (t *Tunnel) edit(id identity.NodeID, change func(*peer, *outbox)) bool {
	out := outbox{t: t}
	t.mu.Lock()
	p := t.peers[id]
	if p == nil || t.closed {
		t.mu.Unlock()
		return false
	}
	change(p, &out)
	t.mu.Unlock()
	out.flush(id)
	return true
}

// write sends a datagram for a peer where its route leads.
func (t *Tunnel) write(id identity.NodeID, d []byte, r peering.Route) {
	var err error
	if r.IsRelay() {
		err = t.TryRelay(r.Via, t.cfg.RelayKind, id, d)
	} else {
		err = t.cfg.Socket.WriteTo(d, r.Remote, netip.Addr{})
	}
	if err != nil {
		t.stats.SendErrors.Add(1)
	}
}
