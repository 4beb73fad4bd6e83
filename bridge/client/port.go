package client

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.bug.st/serial"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// PortOptions say how OpenPort opens. The zero value works.
type PortOptions struct {
	// Mode is what to begin with, nil: the device's own. Its InitialStatusBits,
	// if they are not nil, are set after the open; nil leaves DTR and RTS as the
	// device's rule and profile say, where go.bug.st/serial would raise both: that
	// resets some sticks. A mode cannot say flow control: that stays the device's.
	Mode *serial.Mode
	// Take says what may be done to another consumer of the device.
	Take Take
	// ReadOnly reads along, whoever uses the device. It takes the right to read
	// only; Mode must be nil then, and whatever would change something fails.
	ReadOnly bool
	// Owner pins the device to this node, by name or NodeID: a device of the
	// same name on another is not opened. Default: wherever it is plugged in.
	Owner string
	// Kind is what `sessions` shows as the use. Default "port".
	Kind Kind
	// Event is told what happens beside the bytes. It must not block, nor call
	// methods of the port. Default: nobody; Losses counts in any case.
	Event func(PortEvent)
}

// PortEventKind tells the events of a port apart.
type PortEventKind int

// The kinds of events.
const (
	PortGap   PortEventKind = 1 // bytes are missing: ToDevice, Lost, Unknown
	PortLine  PortEventKind = 2 // Line is in force now
	PortModem PortEventKind = 3 // Known modem lines, On among them
	PortNote  PortEventKind = 4 // Text says what is unusual; empty: nothing any more
)

// PortEvent is something that happened beside the bytes of a port.
type PortEvent struct {
	Kind PortEventKind
	// Offset is how many bytes of the device had come before it since the open,
	// whether or not they were read. For a gap of the device's bytes it is where
	// they are missing.
	Offset    uint64
	ToDevice  bool   // the bytes that are missing were for the device
	Lost      uint64 // up to how many
	Unknown   bool   // there may be more
	Line      line.Settings
	Known, On line.ModemLines
	Text      string
}

const (
	// portWindow is how much a Port keeps for its reader, in bytes; the session
	// behind it keeps more.
	portWindow = 64 << 10
	// modemPatience is how long the first word of the modem lines may take.
	modemPatience = 2 * time.Second
	// closePatience bounds Close: what was written may need 2 s to be delivered.
	closePatience = 5 * time.Second
)

// Port is a device opened as a serial port. It satisfies serial.Port of
// go.bug.st/serial. All methods are safe for concurrent use; Close unblocks the
// others. One goroutine of its own reads the connection to the agent, until
// Close or the end of the device.
//
// Bytes, line settings, modem lines and breaks reach the device in the order of
// the calls. A short outage of the way to the device is not seen, but that calls
// take longer; what could not be carried is told as PortGap, never in the bytes.
// When the device is lost for good or another consumer takes it, Read first
// returns what came before and then an error that says so.
type Port struct {
	device   string
	conn     net.Conn
	event    func(PortEvent)
	readOnly bool
	closing  chan struct{} // closed by Close
	done     chan struct{} // closed when the reader has ended

	writing sync.Mutex // the bytes of one Write stay together
	framing sync.Mutex // guards out and writes to conn
	out     []byte

	mu      sync.Mutex
	changed *sync.Cond // of mu: all below
	buf     []byte     // came and not read; at most portWindow
	came    uint64     // bytes since the open
	owed    int        // bytes that have left buf and were not granted again
	credit  uint64     // bytes that the agent takes
	timeout time.Duration
	state   portwire.Frame
	known   bool // state was told
	asked   map[uint32]*question
	last    uint32 // ID of a question
	lost    Losses
	closed  bool
	end     error // why the reader has ended
}

// Losses counts what was lost, as PortGap events tell it.
type Losses struct {
	Gaps                 int    // how often
	FromDevice, ToDevice uint64 // bytes, at most
	Unknown              bool   // there may be more
}

// question is a request that waits for its answer.
type question struct {
	purges bool // the answer ends what came before
	answer chan error
}

var _ serial.Port = (*Port)(nil)

// OpenPort opens a device by its name, NAME or NAME@NODE, wherever it is
// plugged in. ctx governs the opening only. The error is a *PortError where
// go.bug.st/serial has a code for it; under it is a *NoAgentError (ErrNoAgent)
// where nobody listens, an *Error else: NotFound, Away, Ambiguous, Busy,
// Refused, or Failed where the device does not do the Mode.
func (c *Client) OpenPort(ctx context.Context, device string, o PortOptions) (*Port, error) {
	p, err := c.openPort(ctx, device, o)
	if err != nil {
		return nil, portError(err)
	}
	return p, nil
}

func (c *Client) openPort(ctx context.Context, device string, o PortOptions) (*Port, error) {
	query, err := portQuery(device, o)
	if err != nil {
		return nil, err
	}
	raw, err := c.open(ctx, "/v1/ports", query, UpgradePort)
	if err != nil {
		return nil, err
	}
	p := &Port{
		device: device, conn: raw.Conn, event: o.Event, readOnly: o.ReadOnly, timeout: serial.NoTimeout,
		closing: make(chan struct{}), done: make(chan struct{}), asked: map[uint32]*question{},
	}
	if p.event == nil {
		p.event = func(PortEvent) {}
	}
	p.changed = sync.NewCond(&p.mu)
	go p.receive(raw.reader)
	p.send(portwire.Frame{Type: portwire.Window, Count: portWindow})
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	err = p.begin(o.Mode)
	if !stop() && err == nil || err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// portQuery says the options in the request.
func portQuery(device string, o PortOptions) (url.Values, error) {
	query := url.Values{"device": {device}, "take": {o.Take.String()}}
	if o.Owner != "" {
		if strings.Contains(device, "@") {
			return nil, Errorf(Invalid, "name the node in one of the two", "open port %q: an owner %q is given besides", device, o.Owner)
		}
		query.Set("device", device+"@"+o.Owner)
	}
	if o.Kind != "" {
		query.Set("kind", string(o.Kind))
	}
	if o.ReadOnly {
		query.Set("read_only", "1")
	}
	if o.Mode != nil {
		if o.ReadOnly {
			return nil, Errorf(Invalid, "leave Mode nil", "open port %q: a mode cannot be set on a port that only reads", device)
		}
		settings, err := modeSettings(*o.Mode, line.FlowNone)
		if err != nil {
			return nil, err
		}
		query.Set("line", settings.String())
	}
	return query, nil
}

// begin waits for the first word of the agent and sets the outputs.
func (p *Port) begin(mode *serial.Mode) error {
	p.mu.Lock()
	for !p.known && p.end == nil {
		p.changed.Wait()
	}
	err := p.end
	if p.known {
		err = nil // what came before an end is for Read
	}
	p.mu.Unlock()
	if err != nil || mode == nil || mode.InitialStatusBits == nil {
		return err
	}
	var on line.ModemLines
	if mode.InitialStatusBits.DTR {
		on |= line.DTR
	}
	if mode.InitialStatusBits.RTS {
		on |= line.RTS
	}
	return p.ask(portwire.Frame{Op: portwire.OpModem, Mask: line.ModemOutputs, On: on})
}

// Read waits for bytes of the device and returns those that there are, at most
// len(b). After the time of SetReadTimeout it returns 0 and no error; without
// one it waits. With an empty b it returns at once.
func (p *Port) Read(b []byte) (int, error) {
	n, grant, err := p.take(b)
	if grant > 0 {
		p.send(portwire.Frame{Type: portwire.Window, Count: uint32(grant)})
	}
	return n, err
}

// take moves bytes to b, and says how many the agent may send for that.
func (p *Port) take(b []byte) (n, grant int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	expired := p.timeout == 0 || len(b) == 0
	if p.timeout > 0 && len(p.buf) == 0 {
		timer := time.AfterFunc(p.timeout, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			expired = true
			p.changed.Broadcast()
		})
		defer timer.Stop()
	}
	for len(p.buf) == 0 && !p.closed && p.end == nil && !expired {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, 0, p.closedError("read from")
	case len(p.buf) > 0:
		n = copy(b, p.buf)
		p.buf = p.buf[:copy(p.buf, p.buf[n:])]
		p.owed += n
		return n, p.grantLocked(), nil
	}
	return 0, 0, portError(p.end)
}

// grantLocked returns what to grant again, once that is worth a frame. mu is
// held.
func (p *Port) grantLocked() int {
	if p.owed < portWindow/4 {
		return 0
	}
	n := p.owed
	p.owed = 0
	return n
}

// Write takes all of b, waiting while the device does not take bytes. It returns
// how many were taken before an error. They are on their way; Drain waits for
// their arrival.
func (p *Port) Write(b []byte) (int, error) {
	if p.readOnly {
		return 0, portError(p.readOnlyError("write to"))
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	for done := 0; ; {
		n, err := p.room(min(len(b)-done, portwire.MaxData))
		if err != nil {
			return done, err
		}
		if done == len(b) {
			return done, nil
		}
		if err := p.send(portwire.Frame{Type: portwire.Data, Data: b[done : done+n]}); err != nil {
			return done, p.failed("write to")
		}
		done += n
	}
}

// room waits until the agent takes bytes and uses up to most of them.
func (p *Port) room(most int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.credit == 0 && most > 0 && !p.closed && p.end == nil {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, p.closedError("write to")
	case p.end != nil:
		return 0, portError(p.end)
	}
	n := int(min(p.credit, uint64(most)))
	p.credit -= uint64(n)
	return n, nil
}

// SetReadTimeout says how long a Read that begins after this call waits for
// bytes: serial.NoTimeout for ever, which is how a port begins, 0 not at all.
// Another negative time is an error.
func (p *Port) SetReadTimeout(t time.Duration) error {
	if t < 0 && t != serial.NoTimeout {
		return &PortError{code: serial.InvalidTimeoutValue, err: Errorf(Invalid, "give 0 or more, or serial.NoTimeout", "set read timeout of device %q: %v", p.device, t)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = t
	return nil
}

// Close releases the device; it is safe to call twice. What was written is given
// 2 s to be delivered. Other calls end with a PortError of serial.PortClosed,
// which unwraps to net.ErrClosed.
func (p *Port) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	if !first {
		<-p.done
		return nil
	}
	close(p.closing)
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() // frees a writer too; the agent answers with its end
	}
	p.conn.SetReadDeadline(time.Now().Add(closePatience))
	<-p.done
	p.conn.Close()
	return nil
}

// Losses returns what was lost since the open.
func (p *Port) Losses() Losses {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Device returns the name that the port was opened by.
func (p *Port) Device() string { return p.device }

// String names the port in texts.
func (p *Port) String() string { return fmt.Sprintf("device %q", p.device) }
