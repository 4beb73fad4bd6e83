package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// Options say how OpenPort opens. The zero value works.
type Options struct {
	Line line.Settings // to begin with; zero: the device's own
	Take use.Take
	// Kind is what the owner shows as the use. Default "port".
	Kind string
	// ReadOnly reads along, whoever uses the device; that takes the right to
	// read, and no line settings.
	ReadOnly bool
	// Changed is told, not to block, when State may say something new.
	Changed func()
}

// Port is a device opened as a port: bytes, line settings, modem lines,
// break. What is asked for happens at the device in the order of the calls,
// and after what was written before. All methods are safe for concurrent use.
// Those with a ctx return when the device's node has done it, which takes a
// round trip, or longer while the device takes no bytes or is away.
type Port struct {
	raw      *raw
	readOnly bool
	changed  func()

	mu     sync.Mutex
	known  line.ModemLines // modem lines that were ever told
	modem  line.ModemLines // those of them that are on
	failed error           // what the device did not do, not told yet
}

// Gap is bytes that are missing.
type Gap struct {
	ToDevice bool   // else from the device
	Lost     uint64 // up to how many
	Unknown  bool   // there may be more
}

// Piece is what comes next of a port: N bytes, or a Gap if N is 0.
type Piece struct {
	N   int
	End uint64 // bytes that have left the port, read or purged, this piece included
	Gap Gap
}

// State is how a port is now.
type State struct {
	Line line.Settings // in force, as far as is known
	// Known are the modem lines that the port has told, On those that are on.
	Known, On line.ModemLines
	HasModem  bool // it has modem lines and break
	// Note says what is unusual, for people: who else uses the device, that it
	// is away. Empty: nothing.
	Note string
}

// Errors of a Port that callers test for.
var (
	// ErrDevice is wrapped by the error of a method that says what the device
	// did not do.
	ErrDevice = errors.New("the device did not do what was asked")
	// ErrReadOnly: the port was opened to read along.
	ErrReadOnly = errors.New("it was opened to read along")
	// errUnconfirmed: the session was lost meanwhile, another may follow.
	errUnconfirmed = errors.New("the session was lost before the device's node confirmed it")
)

// Read implements io.Reader; see Opener.Raw. Gaps are passed over.
func (p *Port) Read(b []byte) (int, error) { return p.raw.Read(b) }

// Next reads bytes into b, or returns the gap that stands before the next of
// them. It blocks and ends as Read.
func (p *Port) Next(b []byte) (Piece, error) { return p.raw.next(b) }

// Write implements io.Writer. It blocks while the device does not take the
// bytes; a Purge of what is sent ends that.
func (p *Port) Write(b []byte) (int, error) {
	if p.readOnly {
		return 0, ErrReadOnly
	}
	return p.raw.Write(b)
}

// Close gives what was written a moment to be delivered. It is safe to call
// twice.
func (p *Port) Close() error { return p.raw.Close() }

// Status tells how the session is.
func (p *Port) Status() use.Status { return p.raw.Status() }

// Drain waits until the device's driver has all that was written.
func (p *Port) Drain(ctx context.Context) error {
	return p.outcome(p.raw.use.Ask(ctx, session.Control{Kind: session.KindMark}))
}

// Purge drops at once what was not read or not sent: session.PurgeReceive,
// session.PurgeTransmit. The device's node follows; Purged waits for it.
func (p *Port) Purge(bits uint64) error {
	if p.readOnly && bits&session.PurgeTransmit != 0 {
		return ErrReadOnly
	}
	if bits&session.PurgeReceive != 0 {
		p.raw.discard()
	}
	if l := p.raw.use.Present(); l != nil {
		_ = l.Drop(bits) // fails with the session only
	}
	return nil
}

// Purged waits until what Purge asked for is done. Of what came before that
// nothing can be read any more: the bytes before end have left the port, among
// them those of a Next that has returned and is not used yet.
func (p *Port) Purged(ctx context.Context, bits uint64) (end uint64, err error) {
	err = p.Drain(ctx)
	if bits&session.PurgeReceive == 0 {
		return 0, err
	}
	if l := p.raw.use.Present(); l != nil {
		l.Discard()
	}
	return p.raw.discard(), err
}

// SetLine sets line settings. Those of later sessions begin with them too. Its
// error wraps ErrDevice if the device has others now.
func (p *Port) SetLine(ctx context.Context, s line.Settings) error {
	if err := s.Check(); err != nil {
		return err
	}
	return p.ask(func() error { return p.raw.use.AskLine(ctx, s) })
}

// SetModem sets the outputs (DTR, RTS) in mask as on says.
func (p *Port) SetModem(ctx context.Context, mask, on line.ModemLines) error {
	mask &= line.ModemOutputs
	return p.signal(ctx, session.Control{Kind: session.KindModem, Mask: uint64(mask), Bits: uint64(on & mask)})
}

// Break sends a break of this length, timed at the device; what is written
// after it follows it.
func (p *Port) Break(ctx context.Context, length time.Duration) error {
	return p.signal(ctx, session.Control{Kind: session.KindBreak, Millis: uint64(max(length, time.Millisecond).Milliseconds())})
}

// Reset runs a reset recipe of the device's profile at its owner.
func (p *Port) Reset(ctx context.Context, recipe string) error {
	return p.signal(ctx, session.Control{Kind: session.KindReset, Text: recipe})
}

// signal asks for what takes modem lines; its error wraps line.ErrNoSignals where
// there are none.
func (p *Port) signal(ctx context.Context, c session.Control) error {
	if !p.readOnly && !p.State().HasModem {
		return line.ErrNoSignals
	}
	return p.ask(func() error { return p.raw.use.Ask(ctx, c) })
}

func (p *Port) ask(do func() error) error {
	if p.readOnly {
		return ErrReadOnly
	}
	p.mu.Lock()
	p.failed = nil // of nobody who waits
	p.mu.Unlock()
	return p.outcome(do())
}

// outcome says what became of a request that ended with err.
func (p *Port) outcome(err error) error {
	if errors.Is(err, link.ErrClosed) {
		over := p.raw.ending()
		switch {
		case over == nil:
			return errUnconfirmed
		case errors.Is(over, use.ErrLocalClosed):
			return net.ErrClosed
		}
		return over
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = p.failed
	}
	p.failed = nil
	return err
}

// State tells how the port is now.
func (p *Port) State() State {
	inForce, can := p.raw.use.Port()
	p.mu.Lock()
	s := State{Line: inForce, Known: p.known, On: p.modem, HasModem: slices.Contains(can, session.CapabilityModem)}
	p.mu.Unlock()
	switch seen := p.raw.use.View(); {
	case seen.Failure != nil && seen.Connected:
		s.Note = seen.Failure.Error()
	case seen.Failure != nil && !seen.Over:
		s.Note = fmt.Sprintf("the way to the device is broken: %v", seen.Failure)
	case seen.Users != "":
		s.Note = "used by others too: " + seen.Users
	}
	return s
}

// portSide is a Port as the session writes to it.
type portSide struct {
	rawSink
	port *Port
}

// Hear is told of controls as they come in.
func (s portSide) Hear(c session.Control) {
	p := s.port
	p.mu.Lock()
	switch c.Kind {
	case session.KindModem:
		p.known, p.modem = line.ModemLines(c.Mask), line.ModemLines(c.Bits)
	case session.KindFailed:
		p.failed = fmt.Errorf("%w: %s", ErrDevice, failure(c))
	}
	p.mu.Unlock()
	p.changed()
}

// failure says what a control that failed left behind.
func failure(c session.Control) string {
	switch {
	case c.Line == "":
		return c.Text
	case c.Text == "":
		return "its line settings are " + c.Line
	}
	return c.Text + "; its line settings are " + c.Line
}

// Apply is told of controls at their place in the data.
func (s portSide) Apply(_ context.Context, c session.Control) {
	switch c.Kind {
	case session.KindGap:
		s.mark(Gap{Lost: c.Lost, Unknown: c.Unknown})
	case session.KindLoss:
		s.mark(Gap{ToDevice: true, Lost: c.Lost, Unknown: c.Unknown})
	}
}

// Begins is told of a new session, and whether one was lost before it.
func (s portSide) Begins(between bool) {
	if between {
		s.mark(Gap{Unknown: true})
	}
}

// Loses is told of bytes for the device that a lost session had.
func (s portSide) Loses(n uint64) { s.mark(Gap{ToDevice: true, Lost: n}) }

// Noted is told when the use has something to say.
func (s portSide) Noted() { s.port.changed() }

// Port opens a device as a port; see Raw for how long that takes, what
// ends it and its errors. An error wraps ErrDevice if the device has other line
// settings than were asked for.
func (o *Opener) Port(ctx context.Context, device string, with Options) (*Port, error) {
	switch {
	case with.Take > use.TakeForce:
		return nil, fmt.Errorf("open %q: take %d is not known", device, with.Take)
	case with.ReadOnly && !with.Line.IsZero():
		return nil, fmt.Errorf("open %q: set line settings: %w", device, ErrReadOnly)
	}
	if with.Kind == "" {
		with.Kind = "port"
	}
	p := &Port{changed: with.Changed, readOnly: with.ReadOnly}
	if p.changed == nil {
		p.changed = func() {}
	}
	s := stream{device: device, kind: with.Kind, line: with.Line.String(), take: with.Take, readOnly: with.ReadOnly}
	r, err := o.open(ctx, s, func(r *raw) link.Sink {
		p.raw = r
		return portSide{rawSink{r}, p}
	})
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", device, err)
	}
	if inForce, _ := r.use.Port(); !with.Line.IsZero() && !inForce.IsZero() && inForce != with.Line {
		_ = r.Close()
		return nil, fmt.Errorf("open %q: set line settings %v: %w: it has %v", device, with.Line, ErrDevice, inForce)
	}
	return p, nil
}
