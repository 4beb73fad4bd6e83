package device

import (
	"cmp"
	"log/slog"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
)

// remember keeps the last state of the outputs for the next port. What a session
// did (by) is over with it; what a person did by Signal stays.
func (d *Device) remember(steps []profile.Step, by *lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range steps {
		d.set.dtr, d.set.rts = later(d.set.dtr, s.DTR), later(d.set.rts, s.RTS)
		if by == nil {
			d.kept.dtr, d.kept.rts = later(d.kept.dtr, s.DTR), later(d.kept.rts, s.RTS)
		}
	}
}

// later is the state of an output after now, if that says something.
func later(before, now line.Drive) line.Drive {
	if now == line.DriveUnchanged {
		return before
	}
	return now
}

// restore gives DTR and RTS, where a session before changed them, the state that
// a fresh open would give them: the person's, the rule's or the profile's, else
// on, as Linux does. An application with HUPCL that closes its PTY drops both;
// the next would find a device that is held in reset, or does not talk.
func (d *Device) restore(log *slog.Logger) {
	select {
	case d.signalling <- struct{}{}:
		defer func() { <-d.signalling }()
	default:
		return // a person is just setting them
	}
	d.mu.Lock()
	before := d.set
	d.set.dtr, d.set.rts = d.kept.dtr, d.kept.rts
	fresh := d.set.over(specOf(d.want))
	d.mu.Unlock()
	var s profile.Step
	if before.dtr != d.set.dtr {
		s.DTR = cmp.Or(fresh.DTR, line.DriveOn)
	}
	if before.rts != d.set.rts {
		s.RTS = cmp.Or(fresh.RTS, line.DriveOn)
	}
	mask, on := outputs(s)
	to, ok := d.slot.Current().(signaller)
	if !ok || mask == 0 {
		return
	}
	if err := to.SetModem(mask, on); err != nil {
		log.Warn("modem lines not set as at an open", "err", err)
	}
	wake(d.driven)
}
