package memnet

import "net/netip"

// OverlayLink is the index of the interface by which endpoints are in an
// overlay.
const OverlayLink = 2

// SetOverlay gives the endpoint a second address, with the same port, in a
// network over the first such as a KubeSpan is one; the zero Addr takes it away.
// An overlay is a /64, and datagrams between its addresses take links of their
// own, those between these addresses. As Talos has it, what an endpoint there
// sends to the first address of another takes them too, alive or not, unless
// SetMark was called.
func (u *UDP) SetOverlay(addr netip.Addr) {
	h := u.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if addr.IsValid() {
		h.overlay[u.Conn] = netip.AddrPortFrom(addr, u.addr.Port())
	} else {
		delete(h.overlay, u.Conn)
	}
}

// sendUDP is send for an endpoint that may be in an overlay.
func (h *Hub) sendUDP(u *UDP, to netip.AddrPort, p []byte) {
	h.mu.Lock()
	if w, ok := h.overlaid(u, to); ok {
		h.carry(w, UDPAddr(to), p)
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	h.send(u.Conn, UDPAddr(to), p)
}

// overlaid returns the way of a datagram that goes through an overlay; mu is
// held.
func (h *Hub) overlaid(u *UDP, to netip.AddrPort) (way, bool) {
	own, ok := h.overlay[u.Conn]
	if !ok {
		return way{}, false
	}
	network := netip.PrefixFrom(own.Addr(), 64).Masked()
	for other, addr := range h.overlay {
		w := way{receiver: other, in: OverlayLink, direction: direction{UDPAddr(own), UDPAddr(addr)}}
		switch {
		case other == u.Conn || !network.Contains(addr.Addr()):
		case addr == to:
			w.source = UDPAddr(own)
			return w, true
		case other.addr == UDPAddr(to) && !u.marked.Load():
			w.source = UDPAddr(u.addr)
			return w, true
		}
	}
	// To nobody, as WireGuard does for an address of no peer.
	return way{}, network.Contains(to.Addr())
}

// source returns the address from which datagrams to another leave.
func (h *Hub) source(u *UDP, to netip.Addr) netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	own, ok := h.overlay[u.Conn]
	if ok && netip.PrefixFrom(own.Addr(), 64).Masked().Contains(to) {
		return own.Addr()
	}
	return u.addr.Addr()
}
