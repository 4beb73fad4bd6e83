package client

import (
	"errors"
	"io"
	"slices"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// send writes one frame. It blocks for a moment at most: the agent always
// reads.
func (p *Port) send(f portwire.Frame) error {
	p.framing.Lock()
	defer p.framing.Unlock()
	p.out = portwire.Append(p.out[:0], f)
	_, err := p.conn.Write(p.out)
	return err
}

// ask sends a request and waits for its answer.
func (p *Port) ask(f portwire.Frame) error {
	q := &question{purges: f.Op == portwire.OpPurge && f.Bits&purgeReceive != 0, answer: make(chan error, 1)}
	p.mu.Lock()
	if p.closed || p.end != nil {
		p.mu.Unlock()
		return p.failed("ask")
	}
	p.last++
	f.Type, f.ID = portwire.Request, p.last
	p.asked[f.ID] = q
	p.mu.Unlock()
	if p.send(f) != nil {
		return p.failed("ask")
	}
	select {
	case err := <-q.answer:
		return portError(err)
	case <-p.closing:
		return p.failed("ask")
	case <-p.done:
		select {
		case err := <-q.answer:
			return portError(err)
		default:
			return p.failed("ask")
		}
	}
}

// failed waits for the reader to find out what is wrong with the connection,
// unless it is that the port was closed, and says that.
func (p *Port) failed(verb string) error {
	select {
	case <-p.closing:
		return p.closedError(verb)
	case <-p.done:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.closedError(verb)
	}
	return portError(p.end)
}

// receive reads what the agent sends until the connection ends.
func (p *Port) receive(r io.Reader) {
	defer close(p.done)
	err := p.frames(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = err
	p.changed.Broadcast()
}

// frames reads frames until there are no more, and says why.
func (p *Port) frames(r io.Reader) error {
	buf := make([]byte, 0, portwire.MaxFrame)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for {
			f, size, bad := portwire.Decode(buf)
			if bad != nil {
				return Errorf(Failed, "is the agent of the same version as this program?", "read from device %q: %v", p.device, bad)
			}
			if size == 0 {
				break
			}
			if f.Type == portwire.End {
				return p.ended(f)
			}
			if bad := p.frame(f); bad != nil {
				return bad
			}
			buf = buf[:copy(buf, buf[size:])]
		}
		if err != nil {
			return Errorf(Stopping, "start it with \"serialspan agent\"", "read from device %q: the agent stopped", p.device)
		}
	}
}

// ended is what END says.
func (p *Port) ended(f portwire.Frame) error {
	if f.Code == 0 {
		return io.EOF
	}
	return &Error{Code: Code(f.Code), Text: f.Text, Next: f.Next}
}

// frame takes in one frame.
func (p *Port) frame(f portwire.Frame) error {
	switch f.Type {
	case portwire.Data:
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.buf)+len(f.Data) > portWindow {
			return Errorf(Failed, "", "read from device %q: the agent sent more than it may", p.device)
		}
		p.buf = append(p.buf, f.Data...)
		p.came += uint64(len(f.Data))
		p.changed.Broadcast()
	case portwire.Window:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.credit += uint64(f.Count)
		p.changed.Broadcast()
	case portwire.Answer:
		return p.answered(f)
	case portwire.State:
		p.stated(f)
	case portwire.Gap:
		p.gap(f)
	}
	return nil
}

// answered passes an answer on.
func (p *Port) answered(f portwire.Frame) error {
	p.mu.Lock()
	q := p.asked[f.ID]
	delete(p.asked, f.ID)
	grant := 0
	if q != nil && q.purges {
		p.owed += len(p.buf)
		p.buf = p.buf[:0]
		grant = p.grantLocked()
	}
	p.mu.Unlock()
	if grant > 0 {
		p.send(portwire.Frame{Type: portwire.Window, Count: uint32(grant)})
	}
	if q == nil {
		return nil
	}
	if f.Code == 0 {
		q.answer <- nil
	} else {
		q.answer <- &Error{Code: Code(f.Code), Text: f.Text, Next: f.Next}
	}
	return nil
}

// stated notes how the port is and tells what of it is new.
func (p *Port) stated(f portwire.Frame) {
	p.mu.Lock()
	before, first := p.state, !p.known
	p.state, p.known = f, true
	at := p.came
	p.changed.Broadcast()
	p.mu.Unlock()
	if f.Line != "" && (first || f.Line != before.Line) {
		if settings, err := line.Parse(f.Line); err == nil {
			p.event(PortEvent{Kind: PortLine, Offset: at, Line: settings})
		}
	}
	if f.Mask != 0 && (f.Mask != before.Mask || f.On != before.On) {
		p.event(PortEvent{Kind: PortModem, Offset: at, Known: f.Mask, On: f.On & f.Mask})
	}
	if f.Text != before.Text {
		p.event(PortEvent{Kind: PortNote, Offset: at, Text: f.Text})
	}
}

// gap counts and tells bytes that are missing.
func (p *Port) gap(f portwire.Frame) {
	e := PortEvent{Kind: PortGap, ToDevice: f.Direction == portwire.ToDevice, Lost: f.Lost, Unknown: f.Unknown}
	p.mu.Lock()
	e.Offset = p.came
	p.lost.Gaps++
	p.lost.Unknown = p.lost.Unknown || e.Unknown
	if e.ToDevice {
		p.lost.ToDevice += e.Lost
	} else {
		p.lost.FromDevice += e.Lost
	}
	p.mu.Unlock()
	p.event(e)
}

// isOneOf reports whether err unwraps to one of the codes.
func isOneOf(err error, codes ...Code) bool {
	return slices.ContainsFunc(codes, func(c Code) bool { return errors.Is(err, c) })
}
