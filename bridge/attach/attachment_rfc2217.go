package attach

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rfc2217"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// What waits for an RFC 2217 client, in bytes.
const (
	// rfcData is of the device's data; the session keeps the rest.
	rfcData = 16384
	// rfcAnswers is when a client that sends commands and does not read is
	// not read any more either.
	rfcAnswers = 65536
)

// rfcBreak is the length of a break that has none: IAC BRK.
const rfcBreak = 250 * time.Millisecond

// serveRFC2217 carries one client. Nothing is sent to it before there is a
// session: one that is turned away sees its connection closed, as by a machine
// that has no such port.
func (t *attachment) serveRFC2217(ctx context.Context, conn net.Conn, workers *sync.WaitGroup) {
	c := &rfcClient{conn: conn}
	c.changed = sync.NewCond(&c.mu)
	c.use = t.begin(ctx, c, t.spec.Line.String(), workers, func(error) { c.close() })
	defer func() { c.use.Finish(c.use.HoldTime()) }()
	early, ok := c.await(workers)
	if !ok {
		c.close()
		return
	}
	c.start()
	workers.Go(c.write)
	c.read(early)
	c.close()
}

// rfcClient is a client's connection with its Telnet machine, as the session
// writes to it. One goroutine reads the connection, one writes it.
type rfcClient struct {
	conn net.Conn
	use  *use.Use

	mu      sync.Mutex
	changed *sync.Cond       // of mu: all below
	machine *rfc2217.Machine // nil: no session yet
	modem   line.ModemLines  // as last told
	told    bool             // modem was told
	set     line.ModemLines  // outputs that the client has set
	answers []byte           // whole sequences for the client; they go first
	data    []byte           // of the device, encoded
	pressed bool             // a write deadline has passed
	over    bool
}

// await blocks until there is a session. It returns what the client sent
// meanwhile, and false if the client left or the use is over.
func (c *rfcClient) await(workers *sync.WaitGroup) (early []byte, ok bool) {
	ready := make(chan error, 1)
	workers.Go(func() {
		_, err := c.use.Session()
		ready <- err
		_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // long ago: Read returns at once
	})
	buf := make([]byte, 4096)
	n := 0
	var err error
	for err == nil && n < len(buf) {
		var more int
		more, err = c.conn.Read(buf[n:])
		n += more
	}
	if err != nil && !os.IsTimeout(err) {
		return nil, false
	}
	if <-ready != nil {
		return nil, false
	}
	_ = c.conn.SetReadDeadline(time.Time{})
	return buf[:n], true
}

// start makes the machine, with what is in force at the port.
func (c *rfcClient) start() {
	inForce, can := c.use.Port()
	c.mu.Lock()
	defer c.mu.Unlock()
	// A connect leaves DTR and RTS as the device's rule has them. How they stand
	// is told soon; until then the answer to a query is what Linux does at an open.
	outputs := line.ModemOutputs
	if c.told {
		outputs &= c.modem
	}
	c.machine = rfc2217.New(rfc2217.Config{
		State: rfc2217.State{Line: inForce, Outputs: outputs},
		Modem: c.modem,
		Grant: func(now, wanted rfc2217.State) rfc2217.State { return grantRFC(can, now, wanted) },
	})
	c.flush()
}

// grantRFC says what a port of these capabilities will do.
func grantRFC(can []string, now, wanted rfc2217.State) rfc2217.State {
	if !slices.Contains(can, session.CapabilityModem) {
		wanted.Outputs, wanted.Break = now.Outputs, now.Break
	}
	return wanted
}

// flush takes over what the machine has to say. mu is held.
func (c *rfcClient) flush() {
	c.answers = c.machine.Output(c.answers)
	c.changed.Broadcast()
}

// read does what the client says until it is gone or the use is over.
func (c *rfcClient) read(early []byte) {
	buf := make([]byte, session.MaxData)
	n := copy(buf, early)
	for {
		for p := buf[:n]; len(p) > 0; {
			request, taken, ok := c.next(p)
			if !ok || c.do(request) != nil {
				return
			}
			p = p[taken:]
		}
		var err error
		if n, err = c.conn.Read(buf); n == 0 && err != nil {
			return
		}
	}
}

// next decodes the next request of p; its answer is on its way already.
func (c *rfcClient) next(p []byte) (rfc2217.Request, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.answers) > rfcAnswers && !c.over {
		c.changed.Wait()
	}
	request, n := c.machine.Next(p)
	c.set |= request.Mask
	if request.Kind == rfc2217.KindPurge && request.Purge&rfc2217.PurgeReceive != 0 {
		c.data = c.data[:0]
	}
	c.flush()
	return request, n, !c.over
}

// do passes a request on, in order with the data. It blocks while the device
// does not take what was written.
func (c *rfcClient) do(r rfc2217.Request) error {
	switch r.Kind {
	case rfc2217.KindData:
		return c.use.Send(r.Data)
	case rfc2217.KindLine:
		c.use.SetLine(r.State.Line)
	case rfc2217.KindOutputs:
		c.use.Drive(r.Mask, r.State.Outputs)
	case rfc2217.KindBreak:
		on := uint64(0)
		if r.State.Break {
			on = 1
		}
		c.use.Control(session.Control{Kind: session.KindBreak, Bits: on})
	case rfc2217.KindTimedBreak:
		c.use.Control(session.Control{Kind: session.KindBreak, Millis: uint64(rfcBreak.Milliseconds())})
	case rfc2217.KindPurge:
		var bits uint64
		if r.Purge&rfc2217.PurgeReceive != 0 {
			bits |= session.PurgeReceive
		}
		if r.Purge&rfc2217.PurgeTransmit != 0 {
			bits |= session.PurgeTransmit
		}
		c.use.Purge(bits)
	}
	return nil
}

// write carries answers and data to the client until close.
func (c *rfcClient) write() {
	var out []byte
	for {
		c.mu.Lock()
		for len(c.answers)+len(c.data) == 0 && !c.over {
			c.changed.Wait()
		}
		if c.over {
			c.mu.Unlock()
			return
		}
		out = append(append(out[:0], c.answers...), c.data...)
		c.answers, c.data = c.answers[:0], c.data[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		if _, err := c.conn.Write(out); err != nil {
			c.close()
			return
		}
	}
}

// close ends reader and writer; it may be called again.
func (c *rfcClient) close() {
	c.mu.Lock()
	c.over = true
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.conn.Close()
}

// put encodes what there is room for. mu is held.
func (c *rfcClient) put(p []byte) int {
	if c.machine == nil || c.machine.Suspended() {
		return 0
	}
	n := min(len(p), max(0, rfcData-len(c.data)))
	if n > 0 {
		c.data = c.machine.AppendData(c.data, p[:n])
		c.changed.Broadcast()
	}
	return n
}

// TryWrite takes what the client's buffer has room for.
func (c *rfcClient) TryWrite(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, net.ErrClosed
	}
	return c.put(p), nil
}

// Write waits for room, and for a client that suspends the flow.
func (c *rfcClient) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for done := 0; ; {
		done += c.put(p[done:])
		switch {
		case done == len(p):
			return done, nil
		case c.over:
			return done, net.ErrClosed
		case c.pressed:
			return done, os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
}

// SetWriteDeadline knows only "at once" (any time) and "never" (zero): what
// an outlet needs.
func (c *rfcClient) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pressed = !t.IsZero()
	c.changed.Broadcast()
	return nil
}

// Apply tells the client what it did not ask for: modem lines at once, and
// what is in force if that is not what it was promised.
func (c *rfcClient) Apply(_ context.Context, control session.Control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch control.Kind {
	case session.KindModem:
		c.modem, c.told = line.ModemLines(control.Bits), true
		if c.machine != nil {
			c.machine.Outputs(line.ModemOutputs&^c.set, c.modem)
			c.machine.Modem(c.modem)
			c.flush()
		}
	case session.KindFailed:
		if c.machine == nil {
			return
		}
		really := c.machine.State()
		if s, err := line.Parse(control.Line); err == nil {
			really.Line = s
		}
		mask := line.ModemLines(control.Mask) & line.ModemOutputs
		really.Outputs = really.Outputs&^mask | line.ModemLines(control.Bits)&mask
		c.machine.Correct(really)
		c.flush()
	}
}

func (c *rfcClient) Purge(uint64) {}
