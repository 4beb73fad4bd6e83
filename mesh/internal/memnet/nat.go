package memnet

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// NAT is a router in front of one endpoint. It lets in only what answers the
// endpoint: datagrams from where the endpoint sent to not long ago (address-
// and port-dependent filtering, RFC 4787 section 5), as nftables' masquerade
// with connection tracking does. Others are dropped in silence.
type NAT struct {
	Public netip.Addr // the outside address
	// Symmetric: each destination sees another port (address- and
	// port-dependent mapping, RFC 4787 section 4.1); else all see the same.
	Symmetric bool
	// Timeout is how long a mapping lasts that nothing passes; default 30 s.
	Timeout time.Duration
}

// firstPort is the first outside port that a router gives away.
const firstPort = 40000

// defaultTimeout is that of Linux for a UDP flow that was not answered yet.
const defaultTimeout = 30 * time.Second

// router is a NAT in front of one endpoint; the hub's mutex guards it.
type router struct {
	NAT
	inside *UDP
	flows  map[flow]time.Time // when something last passed
	ports  map[netip.AddrPort]uint16
	next   uint16
}

// flow is an outside port and who is spoken to from it.
type flow struct {
	port   uint16
	remote netip.AddrPort
}

// UDPBehind makes the endpoint with the given private address behind a router
// of its own. Nobody reaches the private address; two such endpoints may have
// the same. A datagram between two endpoints takes the link between their inner
// addresses.
func (h *Hub) UDPBehind(addr netip.AddrPort, nat NAT) *UDP {
	if nat.Timeout == 0 {
		nat.Timeout = defaultTimeout
	}
	u := h.UDP(addr)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routers[nat.Public] = &router{
		NAT: nat, inside: u, flows: make(map[flow]time.Time), ports: make(map[netip.AddrPort]uint16), next: firstPort,
	}
	return u
}

// Forget makes the router before an endpoint forget all flows but those to some
// addresses, as it does after its timeout where only those are used.
func (h *Hub) Forget(u *UDP, but ...netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.routers {
		if r.inside == u {
			maps.DeleteFunc(r.flows, func(f flow, _ time.Time) bool { return !slices.Contains(but, f.remote) })
		}
	}
}

// translate returns what the receiver sees as the source of a datagram that an
// endpoint sends, and notes the flow; mu is held.
func (h *Hub) translate(from *Conn, to netip.AddrPort, now time.Time) netip.AddrPort {
	for _, r := range h.routers {
		if r.inside.Conn == from {
			return netip.AddrPortFrom(r.Public, r.out(to, now))
		}
	}
	return netip.AddrPort(from.addr.(UDPAddr))
}

// out returns the outside port for a destination.
func (r *router) out(to netip.AddrPort, now time.Time) uint16 {
	key := to
	if !r.Symmetric {
		key = netip.AddrPort{}
	}
	port, ok := r.ports[key]
	if !ok || !r.alive(port, now) {
		port = r.next
		r.next++
		r.ports[key] = port
	}
	r.flows[flow{port, to}] = now
	return port
}

// alive reports whether anything passed an outside port not long ago.
func (r *router) alive(port uint16, now time.Time) (alive bool) {
	for f, at := range r.flows {
		switch {
		case now.Sub(at) >= r.Timeout:
			delete(r.flows, f)
		case f.port == port:
			alive = true
		}
	}
	return alive
}

// in returns the endpoint inside that gets a datagram, nil for none.
func (r *router) in(from, to netip.AddrPort, now time.Time) *Conn {
	f := flow{to.Port(), from}
	at, ok := r.flows[f]
	if !ok || now.Sub(at) >= r.Timeout {
		return nil
	}
	r.flows[f] = now
	return r.inside.Conn
}

// route finds the way of a datagram where there are routers; it takes the link
// between the inner addresses. mu is held.
func (h *Hub) route(from *Conn, to UDPAddr, now time.Time) way {
	seen := h.translate(from, netip.AddrPort(to), now)
	w := way{receiver: h.conns[key(to)], source: UDPAddr(seen), direction: direction{key(from.addr), key(to)}}
	for outside, r := range h.routers {
		switch {
		case outside == netip.AddrPort(to).Addr():
			w.receiver = r.in(seen, netip.AddrPort(to), now)
		case r.inside.addr == netip.AddrPort(to):
			w.receiver = nil // a private address
		}
	}
	if w.receiver != nil {
		w.direction.to = key(w.receiver.addr)
	}
	return w
}
