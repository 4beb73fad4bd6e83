package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/internal/slot"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// signaller is a Port with outputs that are no data. Port of this machine's
// ttys has them; its errors unwrap to port.ErrNoModemLines where the tty does
// not.
type signaller interface {
	// SetModem sets the outputs in the mask, all at one moment.
	SetModem(mask, on line.ModemLines) error
	// SetBreak begins (on) or ends (off) a break.
	SetBreak(to line.Drive) error
}

// Limits of the registry and of ACCEPT.
const (
	maxCapabilities = 16
	maxCapability   = 32
)

// note finds out what the port can do.
func (d *Device) note(open slot.Port) {
	drives := false
	if m, ok := open.(interface {
		Modem() (line.ModemLines, error)
	}); ok {
		_, err := m.Modem()
		drives = err == nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.can = capabilities(drives, d.want.Profile)
}

// capabilities are those of a port, which drives modem lines or does not, with
// the recipes of its profile.
func capabilities(drives bool, known profile.Profile) []string {
	if !drives {
		return nil
	}
	can := []string{session.CapabilityModem}
	for _, r := range known.Recipes {
		if word := session.CapabilityReset + r.Name; len(can) < maxCapabilities && len(word) <= maxCapability {
			can = append(can, word)
		}
	}
	return can
}

// Signal runs steps for this node: outputs change and the waits pass here. The
// last state of DTR and RTS also holds for the port after a replug and at the
// begin of later sessions. See signal for the rest.
func (d *Device) Signal(ctx context.Context, steps []profile.Step) error {
	if err := (profile.Recipe{Name: "signal", Steps: steps}).Check(); err != nil {
		return err
	}
	if err := d.signal(ctx, steps, nil); err != nil {
		return err
	}
	d.log.Info("signal given", "steps", len(steps))
	return nil
}

// Reset runs a recipe of the device's profile, as Signal does.
func (d *Device) Reset(ctx context.Context, recipe string) error {
	steps, err := d.recipe(recipe)
	if err == nil {
		err = d.signal(ctx, steps, nil)
	}
	if err != nil {
		return err
	}
	d.log.Info("device reset", "recipe", recipe)
	return nil
}

// Allows reports whether the rule lets the peer open the device.
func (d *Device) Allows(peer identity.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want.Rule.Allows(peer)
}

func (d *Device) recipe(name string) ([]profile.Step, error) {
	d.mu.Lock()
	known := d.want.Profile
	d.mu.Unlock()
	r, ok := known.Recipe(name)
	if !ok {
		return nil, fmt.Errorf("recipe %.64q: %w", name, profile.ErrNoRecipe)
	}
	return r.Steps, nil
}

// maxBreak bounds a break that a consumer asks for.
const maxBreak = profile.MaxRun

// stepsOf returns what a control asks for.
func (d *Device) stepsOf(c session.Control) ([]profile.Step, error) {
	switch c.Kind {
	case session.KindModem:
		var s profile.Step
		s.DTR = drive(c, line.DTR)
		s.RTS = drive(c, line.RTS)
		return []profile.Step{s}, nil
	case session.KindBreak:
		if c.Millis == 0 && c.Bits != 0 {
			return []profile.Step{{Break: line.DriveOn}}, nil
		}
		if c.Millis == 0 {
			return []profile.Step{{Break: line.DriveOff}}, nil
		}
		length := min(time.Duration(min(c.Millis, uint64(maxBreak.Milliseconds())))*time.Millisecond, maxBreak)
		return []profile.Step{{Break: line.DriveOn, Wait: length}, {Break: line.DriveOff}}, nil
	case session.KindReset:
		return d.recipe(c.Text)
	}
	return nil, nil
}

func drive(c session.Control, output line.ModemLines) line.Drive {
	switch {
	case c.Mask&uint64(output) == 0:
		return line.DriveUnchanged
	case c.Bits&uint64(output) != 0:
		return line.DriveOn
	}
	return line.DriveOff
}

// signal runs steps on the port, one caller after another. Without a port the
// outputs are remembered for the next one. A break that steps begin and do not
// end lasts as long as the session of by, or ends with them if that is nil.
func (d *Device) signal(ctx context.Context, steps []profile.Step, by *lease) error {
	select {
	case d.signalling <- struct{}{}:
		defer func() { <-d.signalling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	open := d.slot.Current()
	to, ok := open.(signaller)
	switch {
	case open == nil:
		d.remember(steps, by)
		return session.CodeGone
	case !ok:
		return line.ErrNoSignals
	}
	before := open.Line()
	breaking, rated := false, false
	var err error
	for _, s := range steps {
		breaking = breaking && s.Break == line.DriveUnchanged || s.Break == line.DriveOn
		rated = rated || s.Baud != 0
		if err = step(ctx, open, to, s); err != nil {
			break
		}
	}
	if by != nil && err == nil {
		by.breaking.Store(breaking)
	} else if breaking {
		err = errors.Join(err, to.SetBreak(line.DriveOff))
	}
	if rated {
		err = errors.Join(err, open.SetLine(before))
	}
	if err == nil {
		d.remember(steps, by)
	}
	wake(d.driven)
	return sealed(err)
}

func step(ctx context.Context, open slot.Port, to signaller, s profile.Step) error {
	if s.Baud != 0 {
		settings := open.Line()
		settings.Baud = s.Baud
		if err := open.SetLine(settings); err != nil {
			return err
		}
	}
	mask, on := outputs(s)
	if mask != 0 {
		if err := to.SetModem(mask, on); err != nil {
			return err
		}
	}
	if s.Break != line.DriveUnchanged {
		if err := to.SetBreak(s.Break); err != nil {
			return err
		}
	}
	if s.Wait == 0 {
		return nil
	}
	timer := time.NewTimer(s.Wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func outputs(s profile.Step) (mask, on line.ModemLines) {
	for _, o := range [...]struct {
		drive line.Drive
		line  line.ModemLines
	}{{s.DTR, line.DTR}, {s.RTS, line.RTS}} {
		if o.drive != line.DriveUnchanged {
			mask |= o.line
		}
		if o.drive == line.DriveOn {
			on |= o.line
		}
	}
	return mask, on
}

// sealed puts the errors of ports into the words of this package.
func sealed(err error) error {
	switch {
	case errors.Is(err, port.ErrNoModemLines):
		return fmt.Errorf("%w: %w", line.ErrNoSignals, err)
	case errors.Is(err, port.ErrGone), errors.Is(err, port.ErrClosed):
		return fmt.Errorf("%w: %w", session.CodeGone, err)
	}
	return err
}
