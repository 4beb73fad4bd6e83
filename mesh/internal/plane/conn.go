package plane

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// receiveQueue is how many datagrams wait for a reader: 300 kB, what a
	// full window of one session needs.
	receiveQueue = 256
	maxDatagram  = 1400
)

type datagram struct {
	from identity.NodeID
	n    int
	buf  [maxDatagram]byte
}

// Conn is the net.PacketConn of one kind. It is safe for concurrent use.
type Conn struct {
	plane *Plane
	kind  Kind
	wait  bool

	queue   chan *datagram
	pool    sync.Pool
	closed  chan struct{}
	once    sync.Once
	dropped atomic.Uint64

	mu       sync.Mutex // guards what follows
	expired  chan struct{}
	deadline *time.Timer
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(p *Plane, kind Kind, wait bool) *Conn {
	return &Conn{
		plane:   p,
		kind:    kind,
		wait:    wait,
		queue:   make(chan *datagram, receiveQueue),
		pool:    sync.Pool{New: func() any { return new(datagram) }},
		closed:  make(chan struct{}),
		expired: make(chan struct{}),
	}
}

func (c *Conn) deliver(from identity.NodeID, payload []byte) {
	if len(payload) > maxDatagram {
		c.dropped.Add(1)
		return
	}
	d := c.pool.Get().(*datagram)
	d.from = from
	d.n = copy(d.buf[:], payload)
	select {
	case c.queue <- d:
	default:
		c.pool.Put(d)
		c.dropped.Add(1)
	}
}

// ReadFrom waits for a datagram; one longer than p is cut. It fails with
// net.ErrClosed or os.ErrDeadlineExceeded.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-c.queue:
		n, from := copy(p, d.buf[:d.n]), d.from
		c.pool.Put(d)
		return n, Addr{from}, nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// WriteTo sends a datagram to a member, whose address must be an Addr.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	id, ok := NodeOf(to)
	if !ok {
		return 0, fmt.Errorf("send to %s: %w", to, ErrNotMember)
	}
	if err := c.plane.cfg.Send(id, c.kind, p, c.wait); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close makes readers and writers fail with net.ErrClosed.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.SetReadDeadline(time.Time{})
}

// LocalAddr returns this node's address on the plane.
func (c *Conn) LocalAddr() net.Addr { return Addr{c.plane.cfg.Self} }

// SetDeadline sets the read deadline; writes have none.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: a write waits for the tunnel's queue at most.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline makes pending and later reads fail from t on; the zero time
// takes the deadline away.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline != nil {
		c.deadline.Stop()
		c.deadline = nil
	}
	select {
	case <-c.expired:
		c.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return nil
	}
	expired := c.expired
	wait := time.Until(t)
	if wait <= 0 {
		close(expired)
		return nil
	}
	c.deadline = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case <-expired:
		default:
			if expired == c.expired {
				close(expired)
			}
		}
	})
	return nil
}
