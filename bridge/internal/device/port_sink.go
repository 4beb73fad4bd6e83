package device

import (
	"context"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// drainTimeout bounds how long line settings wait for the bytes before them:
// what the tty layer keeps (4 KiB) at 9600 bit/s. Flow control may hold them
// for ever.
const drainTimeout = 5 * time.Second

// portSink is a device's port as the local side of one session. It outlives
// ports: without one, bytes wait and settings are remembered.
type portSink struct {
	device *Device
	lease  *lease
}

// TryWrite never fails: a port that does is taken out of the slot.
func (s *portSink) TryWrite(p []byte) (int, error) {
	if s.lease.readOnly {
		return len(p), nil // a peer that does not keep to its OPEN
	}
	n := s.lease.writer.TryWrite(p)
	s.device.written(p[:n])
	return n, nil
}

func (s *portSink) Write(p []byte) (int, error) {
	if s.lease.readOnly {
		return len(p), nil
	}
	n, err := s.lease.writer.Write(p)
	s.device.written(p[:n])
	switch l := s.lease.link; {
	case l.Waiting() == 0:
		s.lease.writer.Leave()
	case l.IsWhole():
		s.lease.writer.Yield()
	}
	return n, err
}

func (s *portSink) SetWriteDeadline(t time.Time) error {
	s.lease.writer.SetDeadline(t)
	return nil
}

func (s *portSink) Apply(ctx context.Context, c session.Control) {
	d := s.device
	if c.Kind == session.KindGap {
		d.log.Warn("consumer lost bytes for the device", "node", s.lease.peer, "lost", c.Lost, "unknown", c.Unknown)
		d.countLost(s.lease, c.Lost)
		return
	}
	if s.lease.readOnly {
		return
	}
	switch c.Kind {
	case session.KindLine:
		s.applyLine(ctx, c.Line)
	case session.KindModem, session.KindBreak, session.KindReset:
		steps, err := d.stepsOf(c)
		if err == nil {
			s.drain(ctx)
			err = d.signal(ctx, steps, s.lease)
		}
		if err != nil {
			d.log.Warn("signal not given", "node", s.lease.peer, "err", err)
			d.look()
			d.mu.Lock()
			on, known := d.modem, d.modems
			d.mu.Unlock()
			failed := session.Control{Kind: session.KindFailed, Text: clip(err.Error())}
			if known {
				failed.Mask, failed.Bits = uint64(line.ModemOutputs), uint64(on&line.ModemOutputs)
			}
			s.tell(failed)
		}
	}
}

// tell sends what became of a control before the control is acknowledged: who
// asked and waits for that knows it then.
func (s *portSink) tell(c session.Control) {
	if s.lease.link.OfferControl(c) {
		s.lease.link.Flush()
	}
}

func (s *portSink) applyLine(ctx context.Context, text string) {
	d := s.device
	wanted, err := line.Parse(text)
	if err == nil && wanted == d.lineInForce() {
		return
	}
	if err == nil {
		s.drain(ctx)
		err = d.setLine(wanted)
	}
	now := d.lineInForce()
	failed := session.Control{Kind: session.KindFailed, Line: now.String()}
	if err != nil {
		d.log.Warn("line settings not applied", "line", text, "err", err)
		failed.Text = clip(err.Error())
	}
	if now != wanted {
		s.tell(failed)
	}
	d.mu.Lock()
	leases := d.leases
	d.mu.Unlock()
	for _, l := range leases {
		if l != s.lease {
			l.link.OfferControl(session.Control{Kind: session.KindFailed, Line: now.String(), Text: "set by " + d.config.NameOf(s.lease.peer)})
		}
	}
	d.config.Changed()
}

// drain lets what was written before leave the driver.
func (s *portSink) drain(ctx context.Context) {
	port := s.device.slot.Current()
	if port == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := port.Drain(ctx); err != nil {
		s.device.log.Debug("bytes not sent before a change of the line", "err", err)
	}
}

func (s *portSink) Purge(bits uint64) {
	port := s.device.slot.Current()
	if s.lease.readOnly || port == nil {
		return
	}
	s.device.tap(capture.Event{Kind: capture.Purge, Bits: uint8(bits)})
	if bits&session.PurgeReceive != 0 {
		_ = port.PurgeInput() // a tty that cannot is a PTY: nothing to purge
	}
	if bits&session.PurgeTransmit != 0 {
		_ = port.PurgeOutput()
		s.lease.writer.Leave()
	}
}
