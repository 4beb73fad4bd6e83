package vm

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// ErrOff is what a call returns whose machine is off.
var ErrOff = fmt.Errorf("the machine is off: %w", net.ErrClosed)

// control is the host's end of the control port. run reads and owns nothing
// else; one mutex is above what is written, one above the calls.
type control struct {
	conn net.Conn
	in   *gob.Decoder

	writing sync.Mutex
	buffer  *bufio.Writer
	out     *gob.Encoder

	mu    sync.Mutex
	last  uint64
	calls map[uint64]*call
	off   bool
	ready chan struct{} // closed at the guest's first word, or at the end
}

func newControl(conn net.Conn) *control {
	buffer := bufio.NewWriter(conn)
	return &control{
		conn: conn, in: gob.NewDecoder(bufio.NewReader(conn)), buffer: buffer, out: gob.NewEncoder(buffer),
		calls: map[uint64]*call{}, ready: make(chan struct{}),
	}
}

// run reads until the connection ends; then every call ends with ErrOff.
func (c *control) run() {
	defer c.end()
	for {
		var m wire.Message
		if err := c.in.Decode(&m); err != nil {
			return
		}
		c.mu.Lock()
		call := c.calls[m.Call]
		if m.End != nil {
			delete(c.calls, m.Call)
		}
		c.mu.Unlock()
		switch {
		case m.Call == 0:
			close(c.ready)
		case call != nil:
			call.take(m)
		}
	}
}

func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	for id, call := range c.calls {
		delete(c.calls, id)
		call.finish(0, ErrOff)
	}
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

func (c *control) isOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off
}

// start begins a call.
func (c *control) start(start wire.Start) *call {
	c.mu.Lock()
	c.last++
	call := &call{control: c, id: c.last}
	call.changed.L = &call.mu
	if c.off {
		call.finish(0, ErrOff)
		c.mu.Unlock()
		return call
	}
	c.calls[call.id] = call
	c.mu.Unlock()
	if err := c.send(wire.Message{Call: call.id, Start: &start}); err != nil {
		call.finish(0, fmt.Errorf("%w: %w", ErrOff, err))
	}
	return call
}

func (c *control) send(m wire.Message) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.out.Encode(m); err != nil {
		return err
	}
	return c.buffer.Flush()
}

// call is one call; it is a stream for those that have one.
type call struct {
	control *control
	id      uint64

	mu      sync.Mutex
	changed sync.Cond
	streams [2][]byte // what came and was not read
	closed  bool      // by us
	ended   bool
	code    int
	err     error
}

func (c *call) take(m wire.Message) {
	if m.End != nil {
		var err error
		if m.End.Error != "" {
			err = errors.New(m.End.Error)
		}
		c.finish(m.End.Code, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(m.Stream) < len(c.streams) {
		c.streams[m.Stream] = append(c.streams[m.Stream], m.Data...)
	}
	c.changed.Broadcast()
}

func (c *call) finish(code int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended, c.code, c.err = true, code, err
	}
	c.changed.Broadcast()
}

// wait waits for the end of the call.
func (c *call) wait() (code int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended {
		c.changed.Wait()
	}
	return c.code, c.err
}

// output returns what came on a stream and was not read.
func (c *call) output(s wire.Stream) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.streams[s])
}

// Read reads the call's stream. io.EOF or the call's error is its end.
func (c *call) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.streams[wire.Stdout]) == 0 {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.ended && c.err != nil:
			return 0, c.err
		case c.ended:
			return 0, io.EOF
		}
		c.changed.Wait()
	}
	n := copy(p, c.streams[wire.Stdout])
	c.streams[wire.Stdout] = c.streams[wire.Stdout][n:]
	return n, nil
}

// Write writes to the call's stream.
func (c *call) Write(p []byte) (int, error) {
	const chunk = 32 << 10
	for n := 0; n < len(p); n += chunk {
		if err := c.control.send(wire.Message{Call: c.id, Data: p[n:min(len(p), n+chunk)]}); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// closeWrite tells the guest that nothing follows.
func (c *call) closeWrite() error { return c.control.send(wire.Message{Call: c.id, EOF: true}) }

// Close ends the stream on both sides.
func (c *call) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	if was {
		return nil
	}
	return c.closeWrite()
}
