package control

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/portwire"
)

const (
	// portWindow is how many bytes of a program wait here for the session, which
	// keeps more.
	portWindow = 64 << 10
	// portRequests is how many requests of a program wait; each of its calls
	// makes one.
	portRequests = 1024
)

// portConn is a program's connection with its port.
type portConn struct {
	conn    net.Conn
	device  string // its name, for texts
	port    Port
	workers sync.WaitGroup
	worked  chan struct{} // closed when work has ended

	framing sync.Mutex // guards the four below and writes to conn
	out     []byte
	told    portwire.Frame
	purged  uint64 // pieces up to here are from before a purge
	owed    int    // bytes that left the queue and were not granted again

	mu      sync.Mutex
	changed *sync.Cond // of mu: all below
	queue   []portwire.Frame
	queued  int    // bytes in it
	credit  uint64 // bytes that the program takes
	last    bool   // nothing more comes into the queue
	over    bool   // nothing more is to be done
}

func newPortConn(conn net.Conn, device string, port Port) *portConn {
	c := &portConn{conn: conn, device: device, port: port, worked: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// send writes one frame.
func (c *portConn) send(f portwire.Frame) {
	c.framing.Lock()
	defer c.framing.Unlock()
	c.sendLocked(f)
}

// sendLocked is send with framing held. A connection that fails is found by its
// reader.
func (c *portConn) sendLocked(f portwire.Frame) {
	c.out = portwire.Append(c.out[:0], f)
	c.conn.Write(c.out)
}

// tell writes the state if it is news.
func (c *portConn) tell() {
	c.framing.Lock()
	defer c.framing.Unlock()
	c.tellLocked()
}

func (c *portConn) tellLocked() {
	now := c.port.State()
	now.Type = portwire.State
	was := c.told
	if was.Type == now.Type && was.Flags == now.Flags && was.Mask == now.Mask && was.On == now.On && was.Line == now.Line && was.Text == now.Text {
		return
	}
	c.told = now
	c.sendLocked(now)
}

// grant lets the program send n bytes more, once that is worth a frame.
func (c *portConn) grant(n int) {
	c.framing.Lock()
	defer c.framing.Unlock()
	if c.owed += n; c.owed >= portWindow/4 {
		c.sendLocked(portwire.Frame{Type: portwire.Window, Count: uint32(c.owed)})
		c.owed = 0
	}
}

// finish says that nothing more comes, or that it is over at once.
func (c *portConn) finish(over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.over = true, c.over || over
	c.changed.Broadcast()
}

// read takes in frames until the program closes, nil, or breaks a rule.
func (c *portConn) read(r io.Reader) error {
	buf := make([]byte, 0, portwire.MaxFrame)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for {
			f, size, bad := portwire.Decode(buf)
			if bad == nil && size > 0 {
				bad = c.frame(f)
			}
			if bad != nil {
				return client.Errorf(client.Invalid, "", "serve port: %v", bad)
			}
			if size == 0 {
				break
			}
			buf = buf[:copy(buf, buf[size:])]
		}
		if err != nil {
			return nil // closed, or died
		}
	}
}

// frame takes in one frame. It does not wait for the device.
func (c *portConn) frame(f portwire.Frame) error {
	switch f.Type {
	case portwire.Window:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.credit += uint64(f.Count)
		c.changed.Broadcast()
	case portwire.Data:
		f.Data = append([]byte(nil), f.Data...)
		return c.push(f)
	case portwire.Request:
		if f.Op == portwire.OpPurge {
			c.purge(f.Bits)
		}
		return c.push(f)
	}
	return nil
}

func (c *portConn) push(f portwire.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued+len(f.Data) > portWindow || len(c.queue) > portWindow+portRequests {
		return errors.New("more is sent than was asked for")
	}
	c.queued += len(f.Data)
	c.queue = append(c.queue, f)
	c.changed.Broadcast()
	return nil
}

// purge does at once what is to be done at once; what waits for that is queued.
func (c *portConn) purge(bits uint8) {
	const transmit = 2
	dropped := 0
	if bits&transmit != 0 {
		c.mu.Lock()
		kept := c.queue[:0]
		for _, f := range c.queue {
			if f.Type != portwire.Data {
				kept = append(kept, f)
			}
		}
		c.queue, dropped, c.queued = kept, c.queued, 0
		c.mu.Unlock()
	}
	c.port.Purge(bits) // its failure is that of Purged
	c.grant(dropped)
}

// pop waits for the next of the queue; false when there will be none.
func (c *portConn) pop() (portwire.Frame, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.last {
		c.changed.Wait()
	}
	if len(c.queue) == 0 || c.over {
		return portwire.Frame{}, false
	}
	f := c.queue[0]
	c.queue = c.queue[1:]
	c.queued -= len(f.Data)
	return f, true
}

// work does what is queued, in order.
func (c *portConn) work(ctx context.Context) {
	defer close(c.worked)
	for {
		f, ok := c.pop()
		if !ok {
			return
		}
		if f.Type == portwire.Data {
			if _, err := c.port.Write(f.Data); err != nil {
				return // pump finds out why
			}
			c.grant(len(f.Data))
			continue
		}
		answer := portwire.Frame{Type: portwire.Answer, ID: f.ID}
		var end uint64
		var err error
		if f.Op == portwire.OpPurge {
			end, err = c.port.Purged(ctx, f.Bits)
		} else {
			err = c.port.Do(ctx, f)
		}
		if err != nil {
			answer = failureFrame(answer, err)
		}
		c.framing.Lock()
		c.purged = max(c.purged, end)
		c.tellLocked()
		c.sendLocked(answer)
		c.framing.Unlock()
	}
}

// pump carries what the device sends as far as the program takes it, and
// returns why the device ended.
func (c *portConn) pump() error {
	buf := make([]byte, portwire.MaxData)
	for {
		c.mu.Lock()
		for c.credit == 0 && !c.over {
			c.changed.Wait()
		}
		if c.over {
			c.mu.Unlock()
			return net.ErrClosed
		}
		most := min(c.credit, uint64(len(buf)))
		c.mu.Unlock()
		piece, err := c.port.Next(buf[:most])
		if err != nil {
			return err
		}
		c.framing.Lock()
		sent := 0
		switch {
		case piece.N == 0:
			piece.Gap.Type = portwire.Gap
			c.sendLocked(piece.Gap)
		case piece.End > c.purged:
			sent = piece.N
			c.sendLocked(portwire.Frame{Type: portwire.Data, Data: buf[:piece.N]})
		}
		c.framing.Unlock()
		c.mu.Lock()
		c.credit -= uint64(sent)
		c.mu.Unlock()
	}
}
