package profile

import (
	"fmt"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// ParseSignal reads what a person asks for: words such as "dtr=off", "rts=on"
// and "break=250ms", in the order in which they shall happen, or one word
// "reset=RECIPE". Outputs that stand side by side change at the same moment. It
// returns the steps, or the name of the recipe. Its error wraps ErrProfile.
func ParseSignal(words []string) (steps []Step, recipe string, err error) {
	wrong := func(word, why string) ([]Step, string, error) {
		return nil, "", fmt.Errorf("parse signal %.70q: %w: %s", word, ErrProfile, why)
	}
	if len(words) == 0 {
		return wrong("", "give dtr=on|off, rts=on|off, break=TIME or reset=RECIPE")
	}
	fresh := true // the next output begins a new step
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "reset":
			if len(words) > 1 || value == "" {
				return wrong(word, "a recipe stands alone and has a name")
			}
			return nil, value, nil
		case "break":
			length, err := time.ParseDuration(value)
			if err != nil || length < time.Millisecond || length > MaxRun {
				return wrong(word, "want a time from 1ms to 10s, such as break=250ms")
			}
			steps = append(steps, Step{Break: line.DriveOn, Wait: length}, Step{Break: line.DriveOff})
			fresh = true
		case "dtr", "rts":
			to, err := line.ParseDrive(value)
			if err != nil || to == line.DriveUnchanged {
				return wrong(word, "want on or off")
			}
			last := len(steps) - 1
			if fresh || name == "dtr" && steps[last].DTR != line.DriveUnchanged || name == "rts" && steps[last].RTS != line.DriveUnchanged {
				steps = append(steps, Step{})
				last++
			}
			if name == "dtr" {
				steps[last].DTR = to
			} else {
				steps[last].RTS = to
			}
			fresh = false
		default:
			return wrong(word, "want dtr=on|off, rts=on|off, break=TIME or reset=RECIPE")
		}
	}
	if err := (Recipe{Name: "signal", Steps: steps}).Check(); err != nil {
		return nil, "", err
	}
	return steps, "", nil
}
