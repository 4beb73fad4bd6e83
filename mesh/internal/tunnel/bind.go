package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// Socket is what the tunnel needs of the node's UDP socket; see package
// underlay for the contract.
type Socket interface {
	ReadFrom(b []byte) (n int, from netip.AddrPort, local netip.Addr, link int, err error)
	WriteTo(b []byte, to netip.AddrPort, local netip.Addr) error
	WriteFrom(b []byte, to netip.AddrPort, local netip.Addr) error
	SetReadDeadline(t time.Time) error
}

// link is the bind's side of a peer, and the fixed virtual endpoint that
// wireguard-go knows it by.
type link struct {
	id    identity.NodeID
	addr  netip.Addr // mesh address
	first bool       // we initiate, being the smaller NodeID
	route atomic.Pointer[peering.Route]

	sent, heard atomic.Int64 // last data, ns since the tunnel's start; 0: none

	mu   sync.Mutex
	init initiation
	wall time.Time // when the last initiation was made with this pair of keys
}

// conn.Endpoint. The strings are what wireguard-go logs.
func (l *link) ClearSrc()           {}
func (l *link) SrcToString() string { return "" }
func (l *link) DstToString() string { return endpointPrefix + l.id.String() }
func (l *link) DstToBytes() []byte  { return l.id[:] }
func (l *link) DstIP() netip.Addr   { return netip.Addr{} }
func (l *link) SrcIP() netip.Addr   { return netip.Addr{} }

const endpointPrefix = "node:"

// source is where a handshake message came from. wireguard-go rate limits by
// it and sends cookies to it; it never becomes a peer's endpoint.
type source struct {
	remote netip.AddrPort
	local  netip.Addr
}

func (s *source) ClearSrc()           {}
func (s *source) SrcToString() string { return s.local.String() }
func (s *source) DstToString() string { return s.remote.String() }
func (s *source) DstToBytes() []byte  { b, _ := s.remote.MarshalBinary(); return b }
func (s *source) DstIP() netip.Addr   { return s.remote.Addr() }
func (s *source) SrcIP() netip.Addr   { return s.local }

// anySource stands for the source of data packets, which nothing reads: an
// endpoint each would be an allocation per packet.
var anySource = &source{}

// bind implements conn.Bind over the node's socket. Nothing in it waits but
// the receive function for the socket.
type bind struct {
	t         *Tunnel
	open      atomic.Bool
	responses responses
	copies    copies
	strangers strangers
	cookies   cookies

	reads uint // of receive, which has one caller

	mu      sync.Mutex
	stop    chan struct{} // closed by Close
	relayed chan *relayed // messages that members passed on to us
	pool    sync.Pool
}

// setKey tells the parts that know wireguard-go's messages which key is ours.
func (b *bind) setKey(key identity.WireGuardKey) {
	b.strangers.setKey(key)
	b.cookies.setKey(key)
}

// Open implements conn.Bind. The socket outlives Open and Close.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	if b.open.Swap(true) {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if err := b.t.cfg.Socket.SetReadDeadline(time.Time{}); err != nil {
		return nil, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	stop := make(chan struct{})
	b.stop = stop
	fromRelays := func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		return b.receiveRelayed(stop, packets, sizes, eps)
	}
	return []conn.ReceiveFunc{b.receive, fromRelays}, port, nil
}

// Close implements conn.Bind: a deadline in the past wakes the reader.
func (b *bind) Close() error {
	if !b.open.Swap(false) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.stop)
	return b.t.cfg.Socket.SetReadDeadline(time.Unix(1, 0))
}

func (b *bind) SetMark(uint32) error { return nil }
func (b *bind) BatchSize() int       { return 1 }

// ParseEndpoint implements conn.Bind: "node:<NodeID>" of a known link.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	text, ok := strings.CutPrefix(s, endpointPrefix)
	if !ok {
		return nil, fmt.Errorf("endpoint %q: want %s<NodeID>", s, endpointPrefix)
	}
	id, err := identity.ParseNodeID(text)
	if err != nil {
		return nil, err
	}
	if l := b.t.link(id); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("endpoint %q: no such peer", s)
}

// readPause bounds the pause after a read that failed, ENOMEM say: the first is
// a millisecond.
const readPause = 100 * time.Millisecond

// receive reads one WireGuard datagram from the socket; others go to Control.
// It returns only nil or net.ErrClosed: wireguard-go silently ends reception
// on any other error.
func (b *bind) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if b.reads++; b.reads%giveWay == 0 {
		runtime.Gosched()
	}
	pause := time.Millisecond
	for {
		n, from, local, link, err := b.t.cfg.Socket.ReadFrom(packets[0])
		switch {
		case err == nil:
		case !b.open.Load():
			return 0, net.ErrClosed
		case errors.Is(err, net.ErrClosed):
			b.t.fail(fmt.Errorf("receive datagrams: %w", err))
			return 0, net.ErrClosed
		default:
			b.t.stats.ReceiveErrors.Add(1)
			time.Sleep(pause)
			pause = min(2*pause, readPause)
			continue
		}
		pause = time.Millisecond
		if n == 0 {
			continue
		}
		if packets[0][0] == TypeBare {
			b.t.takeBare(packets[0][:n], from, local, link)
			continue
		}
		if n < messageHeader || packets[0][0] > messageTransport || packets[0][0] == 0 {
			b.t.cfg.Control(packets[0][:n], from, local, link)
			continue
		}
		if deliver, ep := b.inspect(packets[0][:n], from, local); deliver {
			b.noteHandshake(packets[0][:n], ep)
			sizes[0], eps[0] = n, ep
			return 1, nil
		}
	}
}

// inspect looks at a WireGuard message from the network and reports whether
// wireguard-go should have it.
func (b *bind) inspect(p []byte, from netip.AddrPort, local netip.Addr) (bool, conn.Endpoint) {
	if !b.strangers.wellFormed(p) {
		b.t.stats.Strangers.Add(1)
		return false, nil
	}
	if p[0] >= messageCookie && !b.strangers.knows(from) {
		b.t.stats.Strangers.Add(1)
	}
	return b.inspectMember(p, from, local)
}

// inspectMember is inspect for a message that looks like a member's.
func (b *bind) inspectMember(p []byte, from netip.AddrPort, local netip.Addr) (bool, conn.Endpoint) {
	switch p[0] {
	case messageTransport:
		return true, anySource
	case messageInitiation:
		if l, response := b.responses.arrived(b.t.now(), p); l != nil {
			b.t.stats.AnsweredRepeats.Add(1)
			b.sendOn(l, response)
			return false, nil
		}
		if b.copies.isCopy(b.t.now(), p) {
			return false, nil
		}
	case messageResponse:
		if b.copies.isCopy(b.t.now(), p) {
			return false, nil
		}
		b.t.settle(binary.LittleEndian.Uint32(p[8:12]))
	}
	return true, &source{remote: from, local: local}
}

// Send implements conn.Bind. It drops and counts what cannot leave now, and
// fails only for an endpoint that is not ours.
func (b *bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	switch e := ep.(type) {
	case *link:
		for _, buf := range bufs {
			b.sendMessage(e, buf)
		}
	case *source:
		for _, buf := range bufs {
			if b.meetCookie(buf) || !e.remote.IsValid() {
				continue // met, or for the source of a relayed message
			}
			if err := b.t.cfg.Socket.WriteTo(buf, e.remote, e.local); err != nil {
				b.t.stats.SendErrors.Add(1)
			}
		}
	default:
		return conn.ErrWrongEndpointType
	}
	return nil
}

func (b *bind) sendMessage(l *link, message []byte) {
	switch {
	case message[0] == messageInitiation && len(message) == initiationLen:
		b.hold(l, message)
		return
	case message[0] == messageResponse && len(message) == responseLen:
		b.responses.left(b.t.now(), l, message)
		l.mu.Lock()
		l.init.settle()
		l.mu.Unlock()
	}
	b.sendOn(l, message)
}

// hold keeps an initiation until it is answered and sends it if it is our turn
// and there is a route.
func (b *bind) hold(l *link, message []byte) {
	l.mu.Lock()
	now := b.t.now()
	if !b.newer(l) {
		l.init.settle()
		l.mu.Unlock()
		b.t.cfg.KeyBurnt()
		return
	}
	l.init.hold(now, message, l.first)
	var out []byte
	if l.route.Load() != nil {
		out = l.init.take(now, false)
	}
	l.mu.Unlock()
	if out != nil {
		b.sendOn(l, out)
	}
	b.t.wakeUp()
	b.t.cfg.Handshaking(l.id)
	if l.route.Load() == nil {
		b.t.cfg.WantPath(l.id)
	}
}

// stampStep is the resolution of WireGuard's timestamps, rounded up: wireguard-go
// cuts off the lower 24 bits of the nanoseconds (16.8 ms).
const stampStep = 1 << 24 * time.Nanosecond

// newer reports whether the wall clock has advanced since the last initiation
// to this peer, and notes it. A responder drops an initiation whose timestamp
// is not newer than the last, for ever: a key that has signed a later time is
// burnt. This is the one place where a decision reads the wall clock (law 1),
// and it compares the clock with nothing but itself. l.mu is held.
func (b *bind) newer(l *link) bool {
	wall := b.t.cfg.Wall().Round(0)
	if !l.wall.IsZero() && wall.Sub(l.wall) < stampStep {
		return false
	}
	l.wall = wall
	return true
}

// sendOn sends on the link's route; without one it drops, counts and asks for
// a path.
func (b *bind) sendOn(l *link, message []byte) {
	r := l.route.Load()
	if r == nil {
		b.t.stats.NoRoute.Add(1)
		b.t.cfg.WantPath(l.id)
		return
	}
	now := b.t.now()
	if last := max(l.sent.Swap(int64(now)), l.heard.Load()); now-time.Duration(last) >= Silent {
		b.t.cfg.WantPath(l.id)
	}
	if r.IsRelay() {
		// It goes into our own tunnel again, so it must not wait for room.
		if err := b.t.TryRelay(r.Via, b.t.cfg.RelayKind, l.id, message); err != nil {
			b.t.stats.SendErrors.Add(1)
		}
		return
	}
	if err := b.t.cfg.Socket.WriteTo(message, r.Remote, r.Local); err != nil {
		b.t.stats.SendErrors.Add(1)
	}
}
