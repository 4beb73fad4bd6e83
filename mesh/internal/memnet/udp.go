package memnet

import (
	"maps"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// kept is never read. An object in it is never finalized.
var kept sync.Map

// UDP is an endpoint of a Hub with the methods of the node's UDP socket (see
// package underlay), so that a whole node runs on a Hub.
type UDP struct {
	*Conn
	addr netip.AddrPort

	marked, unprivileged atomic.Bool

	mu      sync.Mutex
	traffic map[byte]Traffic // sent, by first byte
	last    map[netip.AddrPort]time.Time
	silence map[netip.AddrPort]time.Duration
}

// Silence returns the longest pause so far between two datagrams to an address,
// from the first on.
func (u *UDP) Silence(to netip.AddrPort) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.last[to]; ok {
		return max(u.silence[to], time.Since(last))
	}
	return 0
}

// note counts a datagram.
func (u *UDP) note(b []byte, to netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(b) > 0 {
		t := u.traffic[b[0]]
		u.traffic[b[0]] = Traffic{t.Datagrams + 1, t.Bytes + uint64(len(b))}
	}
	now := time.Now()
	if last, ok := u.last[to]; ok {
		u.silence[to] = max(u.silence[to], now.Sub(last))
	}
	u.last[to] = now
}

// Traffic is datagrams and the bytes in them, without IP and UDP headers.
type Traffic struct{ Datagrams, Bytes uint64 }

// SentByType returns what was sent since the endpoint was made, by the first byte of
// the datagrams.
func (u *UDP) SentByType() map[byte]Traffic {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.traffic)
}

// UDPAddr is the address of a UDP endpoint on a Hub.
type UDPAddr netip.AddrPort

// Network implements net.Addr.
func (UDPAddr) Network() string { return "udp" }

// String implements net.Addr.
func (a UDPAddr) String() string { return netip.AddrPort(a).String() }

// UDP makes the endpoint with the given address, as Conn does.
func (h *Hub) UDP(addr netip.AddrPort) *UDP {
	return &UDP{
		Conn: h.Conn(UDPAddr(addr)), addr: addr, traffic: make(map[byte]Traffic),
		last: make(map[netip.AddrPort]time.Time), silence: make(map[netip.AddrPort]time.Duration),
	}
}

// LocalAddr returns the endpoint's address.
func (u *UDP) LocalAddr() netip.AddrPort { return u.addr }

// ReadFrom returns the next datagram, its source, which of our addresses it went
// to, and the interface: OverlayLink, or 0.
func (u *UDP) ReadFrom(b []byte) (int, netip.AddrPort, netip.Addr, int, error) {
	d, err := u.Conn.receive()
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, 0, err
	}
	local := u.addr.Addr() // also of what a router has let in
	if d.link == OverlayLink {
		local = netip.AddrPort(d.to.(UDPAddr)).Addr()
	}
	return copy(b, d.data), netip.AddrPort(d.from.(UDPAddr)), local, d.link, nil
}

// SetMark keeps what is sent out of the overlay, but for its own addresses; 0
// does not. It is refused after Unprivileged.
func (u *UDP) SetMark(mark uint32) error {
	if u.unprivileged.Load() {
		return os.ErrPermission
	}
	u.marked.Store(mark != 0)
	return nil
}

// Unprivileged takes away the right to SetMark.
func (u *UDP) Unprivileged() { u.unprivileged.Store(true) }

// WriteTo sends a datagram; local is not looked at, the destination decides.
func (u *UDP) WriteTo(b []byte, to netip.AddrPort, _ netip.Addr) error {
	if err := u.count(b); err != nil {
		return err
	}
	u.note(b, to)
	u.hub.sendUDP(u, to, b)
	return nil
}

// WriteFrom is WriteTo if that sends from local, else it fails.
func (u *UDP) WriteFrom(b []byte, to netip.AddrPort, local netip.Addr) error {
	if local != u.hub.source(u, to.Addr()) {
		return u.opError("write", syscall.EADDRNOTAVAIL)
	}
	return u.WriteTo(b, to, local)
}

// Keep keeps x reachable until the process ends, so that its finalizer never
// runs. The runtime runs finalizers outside every bubble, where they may not
// touch a channel that was made inside one; wireguard-go's do.
func (u *UDP) Keep(x any) { kept.Store(x, struct{}{}) }
