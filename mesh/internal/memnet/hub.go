package memnet

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Link is how datagrams travel in one direction between two endpoints. The
// zero value delivers everything at once.
type Link struct {
	Delay  time.Duration // one way
	Jitter time.Duration // added to Delay, uniform in [0, Jitter); reorders
	Loss   float64       // probability in [0, 1] that a datagram is lost
	Twice  float64       // probability in [0, 1] that it arrives twice
	Down   bool          // nothing gets through
	MTU    int           // larger datagrams are lost; 0: only the hub's Config.MTU counts
}

// Config sets up a Hub. The zero value works: ideal links.
type Config struct {
	Link  Link   // default of every direction
	Seed  uint64 // of the losses and jitter; default 0 is a seed like any other
	Queue int    // datagrams that wait at one endpoint; default 1024
	MTU   int    // larger datagrams are dropped and counted; default 1500 bytes
}

// Stats counts datagrams since the hub was made.
type Stats struct {
	Sent      uint64 // handed to WriteTo
	Delivered uint64 // put into a receive queue
	Lost      uint64 // by Loss, Down or the MTU of a link
	Nobody    uint64 // no endpoint with that address
	Overflow  uint64 // receive queue full
	Oversize  uint64 // larger than the MTU
	Largest   int    // size of the largest datagram handed to WriteTo, bytes
}

// Hub is the network. It is safe for concurrent use and needs no closing.
type Hub struct {
	cfg Config

	mu      sync.Mutex
	rand    *rand.Rand
	conns   map[any]*Conn            // by key
	routers map[netip.Addr]*router   // by outside address
	overlay map[*Conn]netip.AddrPort // second addresses
	links   map[direction]Link
	stats   Stats
	seq     uint64
}

// direction has keys.
type direction struct{ from, to any }

// New makes a hub without endpoints.
func New(cfg Config) *Hub {
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	return &Hub{
		cfg:     cfg,
		rand:    rand.New(rand.NewPCG(cfg.Seed, cfg.Seed^0x9e3779b97f4a7c15)),
		conns:   make(map[any]*Conn),
		routers: make(map[netip.Addr]*router),
		overlay: make(map[*Conn]netip.AddrPort),
		links:   make(map[direction]Link),
	}
}

// key tells addresses apart by value, for pointer types such as *net.UDPAddr too.
func key(a net.Addr) any {
	switch a.(type) {
	case UDPAddr, NodeAddr:
		return a // values themselves
	}
	return a.Network() + " " + a.String()
}

// Conn makes the endpoint with the given address. Senders are told exactly the
// addr value given here. An endpoint with an equal address is closed and
// replaced: a process that restarts behind the same address.
func (h *Hub) Conn(addr net.Addr) *Conn {
	c := &Conn{hub: h, addr: addr, wake: make(chan struct{}, 1), closed: make(chan struct{}), reset: make(chan struct{})}
	h.mu.Lock()
	old := h.conns[key(addr)]
	h.conns[key(addr)] = c
	delete(h.overlay, old)
	h.mu.Unlock()
	if old != nil {
		old.shut()
	}
	return c
}

// SetLink sets both directions between a and b, in place of the default.
func (h *Hub) SetLink(a, b net.Addr, l Link) {
	h.SetDirection(a, b, l)
	h.SetDirection(b, a, l)
}

// SetDirection sets what happens to datagrams from one endpoint to another.
func (h *Hub) SetDirection(from, to net.Addr, l Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[direction{key(from), key(to)}] = l
}

// SetDefault sets the link of every direction that SetLink, SetDirection and
// Cut have not set.
func (h *Hub) SetDefault(l Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg.Link = l
}

// Cut takes down every link between a member of one group and one of the
// other. Datagrams that are under way still arrive.
func (h *Hub) Cut(one, other []net.Addr) { h.setDown(one, other, true) }

// Heal brings up every link between a member of one group and one of the other.
func (h *Hub) Heal(one, other []net.Addr) { h.setDown(one, other, false) }

func (h *Hub) setDown(one, other []net.Addr, down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range one {
		for _, b := range other {
			for _, d := range []direction{{key(a), key(b)}, {key(b), key(a)}} {
				l := h.link(d)
				l.Down = down
				h.links[d] = l
			}
		}
	}
}

// Stats returns the counters.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// link is called with mu held.
func (h *Hub) link(d direction) Link {
	if l, ok := h.links[d]; ok {
		return l
	}
	return h.cfg.Link
}

// send copies p and queues it at its receiver, or loses it.
func (h *Hub) send(from *Conn, to net.Addr, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := way{receiver: h.conns[key(to)], source: from.addr, direction: direction{key(from.addr), key(to)}}
	if udp, ok := to.(UDPAddr); ok && len(h.routers) > 0 {
		w = h.route(from, udp, time.Now())
	}
	h.carry(w, to, p)
}

// way is how a datagram travels: to whom, nil for nobody, as whose, over which
// link, and by which of the receiver's interfaces it comes in.
type way struct {
	receiver  *Conn
	source    net.Addr
	direction direction
	in        int
}

// carry takes a datagram on its way; mu is held.
func (h *Hub) carry(w way, to net.Addr, p []byte) {
	h.stats.Sent++
	h.stats.Largest = max(h.stats.Largest, len(p))
	if len(p) > h.cfg.MTU {
		h.stats.Oversize++
		return
	}
	l := h.link(w.direction)
	switch {
	case l.Down || (l.MTU > 0 && len(p) > l.MTU) || (l.Loss > 0 && h.rand.Float64() < l.Loss):
		h.stats.Lost++
		return
	case w.receiver == nil:
		h.stats.Nobody++
		return
	}
	h.deliver(w, to, l, p)
	if l.Twice > 0 && h.rand.Float64() < l.Twice {
		h.deliver(w, to, l, p)
	}
}

// deliver queues a copy of p; mu is held.
func (h *Hub) deliver(w way, to net.Addr, l Link, p []byte) {
	delay := l.Delay
	if l.Jitter > 0 {
		delay += time.Duration(h.rand.Int64N(int64(l.Jitter)))
	}
	h.seq++
	d := datagram{at: time.Now().Add(delay), seq: h.seq, from: w.source, to: to, link: w.in, data: append([]byte(nil), p...)}
	if w.receiver.enqueue(d, h.cfg.Queue) {
		h.stats.Delivered++
	} else {
		h.stats.Overflow++
	}
}

// remove forgets a closed endpoint unless another has taken its address.
func (h *Hub) remove(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[key(c.addr)] == c {
		delete(h.conns, key(c.addr))
	}
	delete(h.overlay, c)
}
