package profile

import (
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// Limits of a recipe.
const (
	// MaxSteps is how many steps a recipe has at most.
	MaxSteps = 32
	// MaxRun is how long all waits of a recipe last at most.
	MaxRun = 10 * time.Second
	// minWait: a timer of an edge node keeps no less.
	minWait = time.Millisecond
)

// ErrNoRecipe is wrapped when a device's profile has no reset recipe of that
// name.
var ErrNoRecipe = errors.New("its profile has no such reset recipe")

// Step sets outputs of the port and then waits. DTR and RTS that are given
// together change at the same moment (one TIOCMSET): what is wired to both
// sees no state in between.
type Step struct {
	DTR, RTS line.Drive
	// Break starts (on) or ends (off) a break.
	Break line.Drive
	// Baud sets this rate in bit/s, 0: leaves it. Whoever runs the recipe
	// puts the line settings back at its end.
	Baud uint32
	// Wait is how long the state stays before the next step, at least 1 ms
	// if not 0.
	Wait time.Duration
}

// Recipe is a sequence of steps that resets a device, run at the owner where
// its timing holds. "On" is the asserted state, which is the low level of the
// wire at a USB chip.
type Recipe struct {
	// Name is what is asked for: "run", "bootloader".
	Name  string
	Steps []Step
}

// Run returns how long the recipe's waits last.
func (r Recipe) Run() time.Duration {
	var sum time.Duration
	for _, s := range r.Steps {
		sum += s.Wait
	}
	return sum
}

// Check reports the first thing that is wrong with r: its name, a step that
// does nothing, waits that are too short or too long in all, a break that does
// not end. Its error wraps ErrProfile.
func (r Recipe) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("check recipe %.70q: %w: %s", r.Name, ErrProfile, fmt.Sprintf(format, args...))
	}
	if !validName(r.Name, maxName) {
		return wrong("the name must be 1 to %d lower-case letters, digits and '-'", maxName)
	}
	if len(r.Steps) == 0 || len(r.Steps) > MaxSteps {
		return wrong("it must have 1 to %d steps, not %d", MaxSteps, len(r.Steps))
	}
	breaking := false
	for i, s := range r.Steps {
		switch {
		case s == Step{}:
			return wrong("step %d does nothing", i+1)
		case s.DTR > line.DriveOff || s.RTS > line.DriveOff || s.Break > line.DriveOff:
			return wrong("step %d: dtr, rts and break must be on, off or unchanged", i+1)
		case s.Wait != 0 && s.Wait < minWait || s.Wait > MaxRun:
			return wrong("step %d: the wait must be from %v to %v", i+1, minWait, MaxRun)
		}
		if s.Break != line.DriveUnchanged {
			breaking = s.Break == line.DriveOn
		}
	}
	if run := r.Run(); run > MaxRun {
		return wrong("its waits last %v, more than %v", run, MaxRun)
	}
	if breaking {
		return wrong("the break does not end")
	}
	return nil
}
