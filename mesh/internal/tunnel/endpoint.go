package tunnel

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"
)

const (
	// MTU is the size of a packet inside the tunnel, bytes, as WireGuard's
	// tools default to: 1420 + 80 of overhead is Ethernet's 1500.
	MTU = 1420

	ipv6HeaderLen = 40
	udpHeaderLen  = 8
	innerHeader   = ipv6HeaderLen + udpHeaderLen
	innerPort     = 51821
	protocolUDP   = 17

	// MaxPayload is the longest payload of Send, bytes, without the kind byte.
	MaxPayload = MTU - innerHeader - 1

	// sendQueue bounds the packets between Send and wireguard-go.
	sendQueue = 256
)

// giveWay is after how many packets of a burst those who encrypt and send, or
// decrypt and deliver, go first. wireguard-go takes a buffer of 64 KiB for each
// packet; a burst that is read as fast as it comes fills its queues with some
// hundred of them, which the process then keeps.
const giveWay = 8

// WireSize returns the length of the WireGuard message, in the UDP datagram that
// leaves the node, for a payload of Send: white paper, section 5.4.6. 1200 bytes
// become 1296: 49 for the headers inside, 15 to a multiple of 16, 32 for header
// and tag.
func WireSize(payload int) int {
	const block = 16
	inside := innerHeader + 1 + payload
	return transportLeast + min((inside+block-1)/block*block, MTU)
}

type packet struct {
	n   int
	buf [MTU]byte
}

// endpoint is the tun.Device that wireguard-go reads from and writes to.
type endpoint struct {
	self    netip.Addr
	deliver func(from [8]byte, kind byte, payload []byte)
	stats   *Stats

	out    chan *packet
	events chan tun.Event
	closed chan struct{}
	once   sync.Once
	reads  uint // of Read, which has one caller
	pool   sync.Pool
}

func newEndpoint(self netip.Addr, stats *Stats, deliver func(from [8]byte, kind byte, payload []byte)) *endpoint {
	return &endpoint{
		self:    self,
		deliver: deliver,
		stats:   stats,
		out:     make(chan *packet, sendQueue),
		events:  make(chan tun.Event, 1),
		closed:  make(chan struct{}),
		pool:    sync.Pool{New: func() any { return new(packet) }},
	}
}

// build puts a payload, which may come in two parts, behind IPv6 and UDP
// headers (RFC 8200, RFC 768).
func (e *endpoint) build(to netip.Addr, kind byte, head, payload []byte) *packet {
	p := e.pool.Get().(*packet)
	udpLen := udpHeaderLen + 1 + len(head) + len(payload)
	p.n = ipv6HeaderLen + udpLen
	h := p.buf[:innerHeader+1]
	clear(h)
	h[0] = 6 << 4
	binary.BigEndian.PutUint16(h[4:], uint16(udpLen))
	h[6], h[7] = protocolUDP, 64
	src, dst := e.self.As16(), to.As16()
	copy(h[8:24], src[:])
	copy(h[24:40], dst[:])
	binary.BigEndian.PutUint16(h[40:], innerPort)
	binary.BigEndian.PutUint16(h[42:], innerPort)
	binary.BigEndian.PutUint16(h[44:], uint16(udpLen))
	h[innerHeader] = kind
	n := copy(p.buf[innerHeader+1:], head)
	copy(p.buf[innerHeader+1+n:], payload)
	return p
}

// send queues a packet and waits for room.
func (e *endpoint) send(p *packet) error {
	select {
	case e.out <- p:
		return nil
	case <-e.closed:
		return net.ErrClosed
	}
}

// trySend queues a packet, or drops and counts it where there is no room.
func (e *endpoint) trySend(p *packet) {
	select {
	case e.out <- p:
	default:
		e.pool.Put(p)
		e.stats.SendQueueFull.Add(1)
	}
}

// Read implements tun.Device.
func (e *endpoint) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if e.reads++; e.reads%giveWay == 0 && len(e.out) > 0 {
		runtime.Gosched()
	}
	select {
	case p := <-e.out:
		sizes[0] = copy(bufs[0][offset:], p.buf[:p.n])
		e.pool.Put(p)
		return 1, nil
	case <-e.closed:
		return 0, os.ErrClosed
	}
}

// Write implements tun.Device: wireguard-go hands over decrypted packets whose
// source address it has checked against the sender's allowed IPs.
func (e *endpoint) Write(bufs [][]byte, offset int) (int, error) {
	for _, buf := range bufs {
		b := buf[offset:]
		if !e.valid(b) {
			e.stats.MalformedInside.Add(1)
			continue
		}
		e.deliver([8]byte(b[16:24]), b[innerHeader], b[innerHeader+1:])
	}
	return len(bufs), nil
}

func (e *endpoint) valid(b []byte) bool {
	if len(b) < innerHeader+1 || b[0]>>4 != 6 || b[6] != protocolUDP {
		return false
	}
	payload := int(binary.BigEndian.Uint16(b[4:]))
	return payload == len(b)-ipv6HeaderLen &&
		int(binary.BigEndian.Uint16(b[44:])) == payload &&
		netip.AddrFrom16([16]byte(b[24:40])) == e.self
}

func (e *endpoint) File() *os.File           { return nil }
func (e *endpoint) MTU() (int, error)        { return MTU, nil }
func (e *endpoint) Name() (string, error)    { return "serialspan", nil }
func (e *endpoint) Events() <-chan tun.Event { return e.events }
func (e *endpoint) BatchSize() int           { return 1 }

// Close implements tun.Device.
func (e *endpoint) Close() error {
	e.once.Do(func() {
		close(e.closed)
		close(e.events)
	})
	return nil
}

// Stats counts what the tunnel did not carry. The fields only grow.
type Stats struct {
	SendQueueFull   atomic.Uint64 // TrySend found no room
	NoRoute         atomic.Uint64 // data for a member without a path
	SendErrors      atomic.Uint64 // the socket refused a datagram
	ReceiveErrors   atomic.Uint64 // the socket failed to give one, and was tried again
	RelayQueueFull  atomic.Uint64 // messages passed on to us came too fast
	Strangers       atomic.Uint64 // WireGuard messages that are not for us, or from where no member is
	BareRefused     atomic.Uint64 // bare datagrams by another interface, or to another address, than our KubeSpan's
	BareUnknown     atomic.Uint64 // bare datagrams in our KubeSpan from where no member is known to be
	MalformedInside atomic.Uint64 // a member sent something else than a datagram of ours
	CookiesMet      atomic.Uint64 // cookies that our wireguard-go wanted without need
	Repeats         atomic.Uint64 // initiations sent again
	AnsweredRepeats atomic.Uint64 // repeats answered with the stored response
}
