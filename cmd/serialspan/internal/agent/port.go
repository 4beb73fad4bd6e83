package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
)

// OpenPort implements control.Agent.
func (a *Agent) OpenPort(ctx context.Context, device string, o control.PortOptions) (control.Port, error) {
	if !o.Line.IsZero() && o.Line.Flow == line.FlowNone {
		if target, err := a.target(device); err == nil {
			o.Line.Flow = target.Line.Flow
		}
	}
	port, err := a.attacher.OpenPort(ctx, device, remote.Options{
		Line: o.Line, Take: take(o.Take), Kind: string(o.Kind), ReadOnly: o.ReadOnly, Changed: o.Changed,
	})
	if err != nil {
		return nil, controlError(err)
	}
	return openedPort{port, device}, nil
}

// openedPort is a remote port as the control server wants it.
type openedPort struct {
	*remote.Port
	device string
}

func (p openedPort) Next(b []byte) (control.PortPiece, error) {
	piece, err := p.Port.Next(b)
	if err != nil {
		if err == io.EOF || errors.Is(err, net.ErrClosed) {
			return control.PortPiece{}, err
		}
		return control.PortPiece{}, p.failure("read from", err)
	}
	gap := portwire.Frame{Direction: portwire.FromDevice, Lost: piece.Gap.Lost, Unknown: piece.Gap.Unknown}
	if piece.Gap.ToDevice {
		gap.Direction = portwire.ToDevice
	}
	return control.PortPiece{N: piece.N, End: piece.End, Gap: gap}, nil
}

func (p openedPort) Do(ctx context.Context, f portwire.Frame) error {
	var verb string
	var err error
	switch f.Op {
	case portwire.OpLine:
		verb = "set line settings " + f.Line + " of"
		var s line.Settings
		if s, err = line.Parse(f.Line); err != nil {
			return client.Errorf(client.Invalid, "", "%s device %q: %v", verb, p.device, err)
		}
		err = p.SetLine(ctx, s)
	case portwire.OpDrain:
		verb, err = "drain", p.Drain(ctx)
	case portwire.OpModem:
		verb, err = "set modem lines of", p.SetModem(ctx, f.Mask, f.On)
	case portwire.OpBreak:
		verb, err = "send break to", p.Break(ctx, time.Duration(f.Count)*time.Millisecond)
	case portwire.OpReset:
		verb, err = "reset", p.Reset(ctx, f.Text)
	default:
		return client.Errorf(client.Unsupported, "run the same version of the agent", "ask device %q: the agent does not know request %d", p.device, f.Op)
	}
	return p.failure(verb, err)
}

// failure says what failed; nil stays nil.
func (p openedPort) failure(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return client.Errorf(client.Stopping, "start it with \"serialspan agent\"", "%s device %q: the agent is stopping", verb, p.device)
	}
	return controlError(fmt.Errorf("%s device %q: %w", verb, p.device, err))
}

func (p openedPort) Purge(bits uint8) error { return p.Port.Purge(uint64(bits)) }

func (p openedPort) Purged(ctx context.Context, bits uint8) (uint64, error) {
	end, err := p.Port.Purged(ctx, uint64(bits))
	return end, p.failure("purge", err)
}

func (p openedPort) State() portwire.Frame {
	s := p.Port.State()
	f := portwire.Frame{Type: portwire.State, Mask: s.Known, On: s.On & s.Known, Line: s.Line.String(), Text: s.Note}
	if s.HasModem {
		f.Flags |= portwire.HasModem
	}
	return f
}
