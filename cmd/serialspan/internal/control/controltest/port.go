package controltest

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
)

// Port is a device with modem lines in memory: a stream of bytes, and a record
// of what was asked for. It satisfies control.Port.
type Port struct {
	Stream io.ReadWriteCloser
	// Refuse, if it is not nil, is what every request fails with.
	Refuse error

	mu       sync.Mutex // guards the fields below
	state    portwire.Frame
	changed  func()
	requests []portwire.Frame
	pieces   []control.PortPiece
	came     chan struct{} // pieces has more
	bytes    chan []byte
	rest     []byte
	end      uint64
	failed   error
}

// newPort returns a port that reads and writes stream.
func newPort(stream io.ReadWriteCloser, o control.PortOptions) *Port {
	p := &Port{Stream: stream, changed: o.Changed, came: make(chan struct{}, 1), bytes: make(chan []byte)}
	if p.changed == nil {
		p.changed = func() {}
	}
	settings := line.Default()
	if !o.Line.IsZero() {
		settings = o.Line
	}
	p.state = portwire.Frame{Type: portwire.State, Flags: portwire.HasModem, Line: settings.String(),
		Mask: line.ModemOutputs | line.CTS | line.DSR | line.DCD | line.RI, On: line.ModemOutputs | line.CTS}
	go p.read()
	return p
}

// read runs until the stream ends, which Close brings about.
func (p *Port) read() {
	defer close(p.bytes)
	for {
		buf := make([]byte, 4096)
		n, err := p.Stream.Read(buf)
		if n > 0 {
			p.bytes <- buf[:n]
		}
		if err != nil {
			p.mu.Lock()
			p.failed = err
			p.mu.Unlock()
			return
		}
	}
}

// Next gives gaps before bytes.
func (p *Port) Next(b []byte) (control.PortPiece, error) {
	for {
		p.mu.Lock()
		if len(p.pieces) > 0 {
			piece := p.pieces[0]
			p.pieces = p.pieces[1:]
			p.mu.Unlock()
			return piece, nil
		}
		if len(p.rest) > 0 {
			n := copy(b, p.rest)
			p.rest = p.rest[n:]
			p.end += uint64(n)
			defer p.mu.Unlock()
			return control.PortPiece{N: n, End: p.end}, nil
		}
		p.mu.Unlock()
		select {
		case <-p.came:
		case more, ok := <-p.bytes:
			p.mu.Lock()
			p.rest = more
			err := p.failed
			p.mu.Unlock()
			if !ok {
				return control.PortPiece{}, err
			}
		}
	}
}

// Gap tells a gap of the device's bytes.
func (p *Port) Gap(lost uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pieces = append(p.pieces, control.PortPiece{Gap: portwire.Frame{Direction: portwire.FromDevice, Lost: lost}})
	select {
	case p.came <- struct{}{}:
	default:
	}
}

// Change changes the state and tells it.
func (p *Port) Change(edit func(*portwire.Frame)) {
	p.mu.Lock()
	edit(&p.state)
	p.mu.Unlock()
	p.changed()
}

// Write passes bytes to the stream.
func (p *Port) Write(b []byte) (int, error) { return p.Stream.Write(b) }

// Do notes the request and changes the state as it says.
func (p *Port) Do(_ context.Context, f portwire.Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.ID, f.Type = 0, 0
	p.requests = append(p.requests, f)
	if p.Refuse != nil {
		return p.Refuse
	}
	switch f.Op {
	case portwire.OpLine:
		p.state.Line = f.Line
	case portwire.OpModem:
		p.state.On = p.state.On&^f.Mask | f.On&f.Mask
	}
	return nil
}

// Requests returns what was asked for so far, without IDs.
func (p *Port) Requests() []portwire.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]portwire.Frame(nil), p.requests...)
}

// Purge does nothing; Purged notes the request.
func (p *Port) Purge(uint8) error { return nil }

// Purged notes the request.
func (p *Port) Purged(ctx context.Context, bits uint8) (uint64, error) {
	p.mu.Lock()
	end := p.end
	p.mu.Unlock()
	return end, p.Do(ctx, portwire.Frame{Op: portwire.OpPurge, Bits: bits})
}

// State is how the port is.
func (p *Port) State() portwire.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Close closes the stream and lets its reader end.
func (p *Port) Close() error {
	err := p.Stream.Close()
	timeout := time.After(time.Second)
	for {
		select {
		case _, ok := <-p.bytes:
			if !ok {
				return err
			}
		case <-timeout: // of a stream that does not end
			return err
		}
	}
}

// OpenPort opens what Open says, or an echo, as a port; Ports lists those.
func (a *Agent) OpenPort(ctx context.Context, device string, o control.PortOptions) (control.Port, error) {
	stream, err := a.Console(ctx, device, o.Take)
	if err != nil {
		return nil, err
	}
	p := newPort(stream, o)
	p.Refuse = a.Refuse
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports = append(a.ports, p)
	return p, nil
}

// Ports returns the ports that were opened so far.
func (a *Agent) Ports() []*Port {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*Port(nil), a.ports...)
}
