package memnet

import (
	"container/heap"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an endpoint of a Hub and satisfies net.PacketConn. It is safe for
// concurrent use. ReadFrom is unblocked by a datagram, the read deadline and
// Close; WriteTo never blocks.
type Conn struct {
	hub    *Hub
	addr   net.Addr
	wake   chan struct{} // capacity 1: the queue has changed
	closed chan struct{}
	once   sync.Once

	sent, sentBytes atomic.Uint64

	mu       sync.Mutex
	queue    datagrams
	deadline time.Time
	reset    chan struct{} // closed and replaced when the deadline changes
}

var _ net.PacketConn = (*Conn)(nil)

type datagram struct {
	at       time.Time
	seq      uint64
	from, to net.Addr
	link     int // the interface it came by
	data     []byte
}

// enqueue reports false if the queue is full or the endpoint is closed.
func (c *Conn) enqueue(d datagram, limit int) bool {
	select {
	case <-c.closed:
		return false
	default:
	}
	c.mu.Lock()
	if len(c.queue) >= limit {
		c.mu.Unlock()
		return false
	}
	heap.Push(&c.queue, d)
	c.mu.Unlock()
	c.signal()
	return true
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ReadFrom returns the next datagram that is due, cut to len(p) bytes, and the
// address of its sender. A passed read deadline gives os.ErrDeadlineExceeded,
// Close gives net.ErrClosed.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	d, err := c.receive()
	return copy(p, d.data), d.from, err
}

// receive returns the next datagram that is due.
func (c *Conn) receive() (datagram, error) {
	for {
		select {
		case <-c.closed:
			return datagram{}, c.opError("read", net.ErrClosed)
		default:
		}
		now := time.Now()
		c.mu.Lock()
		deadline, reset := c.deadline, c.reset
		if !deadline.IsZero() && !now.Before(deadline) {
			c.mu.Unlock()
			return datagram{}, c.opError("read", os.ErrDeadlineExceeded)
		}
		var next time.Time
		if len(c.queue) > 0 {
			next = c.queue[0].at
			if !next.After(now) {
				d := heap.Pop(&c.queue).(datagram)
				more := len(c.queue) > 0
				c.mu.Unlock()
				if more {
					c.signal() // for another reader
				}
				return d, nil
			}
		}
		c.mu.Unlock()
		c.wait(now, next, deadline, reset)
	}
}

// wait blocks until something may have changed for a reader.
func (c *Conn) wait(now, next, deadline time.Time, reset <-chan struct{}) {
	until := next
	if until.IsZero() || (!deadline.IsZero() && deadline.Before(until)) {
		until = deadline
	}
	var due <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(until.Sub(now))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-c.wake:
	case <-due:
	case <-reset:
	case <-c.closed:
	}
}

// WriteTo sends p to addr; a datagram that is lost is no error.
func (c *Conn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if err := c.count(p); err != nil {
		return 0, err
	}
	c.hub.send(c, addr, p)
	return len(p), nil
}

// count counts a datagram that is sent, unless the endpoint is closed.
func (c *Conn) count(p []byte) error {
	select {
	case <-c.closed:
		return c.opError("write", net.ErrClosed)
	default:
	}
	c.sent.Add(1)
	c.sentBytes.Add(uint64(len(p)))
	return nil
}

// Sent returns how many datagrams were handed to WriteTo, and their bytes.
func (c *Conn) Sent() (datagrams, bytes uint64) { return c.sent.Load(), c.sentBytes.Load() }

// Close takes the endpoint off the hub and unblocks readers. Datagrams that
// wait in its queue are lost. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	if !c.shut() {
		return c.opError("close", net.ErrClosed)
	}
	c.hub.remove(c)
	return nil
}

func (c *Conn) shut() (first bool) {
	c.once.Do(func() {
		close(c.closed)
		first = true
	})
	return first
}

// LocalAddr returns the address given to Hub.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// SetDeadline sets the read deadline; writes never block.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline applies to blocked and future reads; the zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	close(c.reset)
	c.reset = make(chan struct{})
	c.mu.Unlock()
	return nil
}

// SetWriteDeadline does nothing: writes never block.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "mem", Source: c.addr, Err: err}
}

// datagrams is a heap by arrival time, then order of sending.
type datagrams []datagram

func (d datagrams) Len() int { return len(d) }
func (d datagrams) Less(i, j int) bool {
	if !d[i].at.Equal(d[j].at) {
		return d[i].at.Before(d[j].at)
	}
	return d[i].seq < d[j].seq
}
func (d datagrams) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *datagrams) Push(x any)   { *d = append(*d, x.(datagram)) }
func (d *datagrams) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = datagram{}
	*d = old[:len(old)-1]
	return last
}
