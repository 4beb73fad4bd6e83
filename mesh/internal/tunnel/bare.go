package tunnel

import (
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// TypeBare is the first byte of a bare datagram: one between two members of one
// KubeSpan, which is WireGuard already, so that ours is left out:
//
//	type 9 ‖ kind (1) ‖ payload
//
// Nothing in it says or proves who sent it. It is taken only when it came in by
// the KubeSpan's own interface, to our address there, from an address and port
// that Know was called for: the KubeSpan lets no other of its nodes use that
// address. (A program on this host can forge one to this host. What the plane
// carries authenticates itself, so that buys nothing but a disturbance.)
const TypeBare = 9

const bareHeader = 2

// BareSize returns the length of the bare datagram for a payload of Send.
func BareSize(payload int) int { return bareHeader + payload }

// place is where bare datagrams arrive: our KubeSpan.
type place struct {
	link int
	addr netip.Addr
}

// bare is the state of the bare datagrams. It is safe for concurrent use.
type bare struct {
	here atomic.Pointer[place] // nil: we are in no KubeSpan
	pool sync.Pool             // *[bareHeader + MaxPayload]byte

	mu    sync.Mutex // of changes of known
	known atomic.Pointer[map[netip.AddrPort]identity.NodeID]
}

func (b *bare) init() {
	b.known.Store(&map[netip.AddrPort]identity.NodeID{})
	b.pool.New = func() any { return new([bareHeader + MaxPayload]byte) }
}

func (b *bare) change(edit func(map[netip.AddrPort]identity.NodeID)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(*b.known.Load())
	edit(next)
	b.known.Store(&next)
}

// SetKubeSpan says by which interface, given by its index, and at which of our
// addresses bare datagrams are taken from now on; the zero Addr: nowhere. What
// Know was told is forgotten.
func (t *Tunnel) SetKubeSpan(link int, addr netip.Addr) {
	t.bare.change(func(known map[netip.AddrPort]identity.NodeID) { clear(known) })
	if !addr.IsValid() {
		t.bare.here.Store(nil)
		return
	}
	t.bare.here.Store(&place{link, addr})
}

// Know says that bare datagrams from an address of the KubeSpan are of this
// member, which it has proved, and that those from others are not any more.
func (t *Tunnel) Know(id identity.NodeID, at netip.AddrPort) {
	if (*t.bare.known.Load())[at] == id {
		return
	}
	t.bare.change(func(known map[netip.AddrPort]identity.NodeID) {
		maps.DeleteFunc(known, func(_ netip.AddrPort, other identity.NodeID) bool { return other == id })
		known[at] = id
	})
}

// Unknow takes back what Know said of a member.
func (t *Tunnel) Unknow(id identity.NodeID) {
	t.bare.change(func(known map[netip.AddrPort]identity.NodeID) {
		maps.DeleteFunc(known, func(_ netip.AddrPort, other identity.NodeID) bool { return other == id })
	})
}

// bareRoute returns a peer's link and route if its datagrams go bare now.
func (t *Tunnel) bareRoute(id identity.NodeID) (*link, *peering.Route) {
	l := t.link(id)
	if l == nil {
		return nil, nil
	}
	r := l.route.Load()
	if r == nil || !r.KubeSpan {
		return nil, nil
	}
	return l, r
}

// sendBare sends one datagram on a bare route, its payload in two parts.
func (t *Tunnel) sendBare(l *link, r *peering.Route, kind byte, head, payload []byte) error {
	select {
	case <-t.ep.closed:
		return net.ErrClosed
	default:
	}
	if len(head)+len(payload) > MaxPayload {
		return ErrTooLong
	}
	buf := t.bare.pool.Get().(*[bareHeader + MaxPayload]byte)
	buf[0], buf[1] = TypeBare, kind
	n := bareHeader + copy(buf[bareHeader:], head)
	n += copy(buf[n:], payload)
	l.sent.Store(int64(t.now()))
	// From our address in the KubeSpan or not at all: once that is gone, the
	// kernel may know another way to such an address, outside.
	here := t.bare.here.Load()
	if here == nil || t.cfg.Socket.WriteFrom(buf[:n], r.Remote, here.addr) != nil {
		t.stats.SendErrors.Add(1) // lost, as on any network
	}
	t.bare.pool.Put(buf)
	return nil
}

// takeBare takes a bare datagram from the socket.
func (t *Tunnel) takeBare(p []byte, from netip.AddrPort, local netip.Addr, link int) {
	here := t.bare.here.Load()
	if here == nil || link != here.link || local != here.addr || len(p) < bareHeader {
		t.stats.BareRefused.Add(1)
		return
	}
	id, known := (*t.bare.known.Load())[from]
	if !known {
		t.stats.BareUnknown.Add(1)
		return
	}
	if l := t.link(id); l != nil {
		l.heard.Store(int64(t.now()))
	} else {
		t.cfg.WantPath(id) // idle for long, and now it is not
	}
	t.cfg.Deliver(id, p[1], p[bareHeader:])
}
