package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// PortOptions say how OpenPort opens. The zero value works.
type PortOptions struct {
	Line line.Settings // to begin with; zero: the device's own
	Take Take
	// Kind is what the owner shows as the use. Default "port".
	Kind string
	// Changed is told, not to block, when Modem or Line have changed.
	Changed func()
}

// RemotePort is a device opened as a port: bytes, line settings, modem lines,
// break. What is asked for happens at the device in the order of the calls,
// and after what was written before. All methods are safe for concurrent use.
type RemotePort struct {
	raw     *raw
	changed func()

	mu     sync.Mutex
	modem  line.ModemLines
	failed error // what the device did not do, not told yet
}

// ErrDevice is wrapped by the error of a method that says what the device did
// not do of what was asked for earlier.
var ErrDevice = errors.New("the device did not do what was asked")

// OpenPort opens a device as a port; see OpenRaw for how long that takes, what
// ends it and its errors.
func (a *Attacher) OpenPort(ctx context.Context, device string, o PortOptions) (*RemotePort, error) {
	if o.Take > TakeForce {
		return nil, fmt.Errorf("open %q: take %d is not known", device, o.Take)
	}
	if o.Kind == "" {
		o.Kind = "port"
	}
	p := &RemotePort{changed: o.Changed}
	if p.changed == nil {
		p.changed = func() {}
	}
	r, err := a.openStream(ctx, device, o.Kind, o.Line.String(), o.Take.wire(), func(r *raw) sink {
		p.raw = r
		return portSide{rawSink{r}, p}
	})
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", device, err)
	}
	p.raw = r
	return p, nil
}

// Read implements io.Reader; see OpenRaw.
func (p *RemotePort) Read(b []byte) (int, error) { return p.raw.Read(b) }

// Write implements io.Writer. It blocks while the device does not take the
// bytes.
func (p *RemotePort) Write(b []byte) (int, error) { return p.raw.Write(b) }

// Close gives what was written a moment to be delivered. It is safe to call
// twice.
func (p *RemotePort) Close() error { return p.raw.Close() }

// Status tells how the session is.
func (p *RemotePort) Status() Status { return p.raw.Status() }

// Drain waits until the device's driver has all that was written.
func (p *RemotePort) Drain(ctx context.Context) error {
	if err := p.raw.use.drain(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return p.trouble()
}

// Purge drops what was not read or not sent: session.PurgeReceive,
// session.PurgeTransmit.
func (p *RemotePort) Purge(bits uint64) error {
	if bits&session.PurgeReceive != 0 {
		p.raw.discard()
	}
	p.raw.use.purge(bits)
	if bits&session.PurgeReceive != 0 {
		p.raw.discard()
	}
	return p.trouble()
}

// SetLine asks for line settings.
func (p *RemotePort) SetLine(s line.Settings) error {
	if err := s.Check(); err != nil {
		return err
	}
	p.raw.use.setLine(s)
	return p.trouble()
}

// Line returns the line settings in force, as far as is known.
func (p *RemotePort) Line() line.Settings {
	inForce, _ := p.raw.use.port()
	return inForce
}

// SetModem sets the outputs (DTR, RTS) in mask as on says.
func (p *RemotePort) SetModem(mask, on line.ModemLines) error {
	p.raw.use.drive(mask&line.ModemOutputs, on)
	return p.trouble()
}

// Modem returns the modem inputs that are on.
func (p *RemotePort) Modem() line.ModemLines {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.modem
}

// Break sends a break of this length, timed at the device. It does not wait
// for its end; what is written after it follows it.
func (p *RemotePort) Break(length time.Duration) error {
	p.raw.use.control(session.Control{Kind: session.KindBreak, Millis: uint64(max(length, time.Millisecond).Milliseconds())})
	return p.trouble()
}

// Reset runs a reset recipe of the device's profile at its owner.
func (p *RemotePort) Reset(recipe string) error {
	p.raw.use.control(session.Control{Kind: session.KindReset, Text: recipe})
	return p.trouble()
}

// trouble returns what failed since it was last asked.
func (p *RemotePort) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failed
	p.failed = nil
	return err
}

// portSide is a RemotePort as the session writes to it.
type portSide struct {
	rawSink
	port *RemotePort
}

func (s portSide) apply(_ context.Context, c session.Control) {
	p := s.port
	p.mu.Lock()
	switch c.Kind {
	case session.KindModem:
		p.modem = line.ModemLines(c.Bits)
	case session.KindFailed:
		p.failed = fmt.Errorf("%w: %s", ErrDevice, c.Text)
	default:
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.changed()
}

// discard drops what was not read.
func (r *raw) discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = r.buf[:0]
	r.changed.Broadcast()
}
