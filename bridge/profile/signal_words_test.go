package profile_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
)

func TestParseSignal(t *testing.T) {
	type steps = []profile.Step
	broken := func(d time.Duration) steps { return steps{{Break: line.DriveOn, Wait: d}, {Break: line.DriveOff}} }
	for _, test := range []struct {
		words  string
		steps  steps // nil: refused, unless there is a recipe
		recipe string
	}{
		{words: "dtr=off", steps: steps{{DTR: line.DriveOff}}},
		{words: "dtr=off rts=on break=250ms", steps: append(steps{{DTR: line.DriveOff, RTS: line.DriveOn}}, broken(250*time.Millisecond)...)},
		{words: "rts=on rts=off dtr=on", steps: steps{{RTS: line.DriveOn}, {RTS: line.DriveOff, DTR: line.DriveOn}}},
		{words: "break=1s dtr=on", steps: append(broken(time.Second), profile.Step{DTR: line.DriveOn})},
		{words: "reset=bootloader", recipe: "bootloader"},
		{words: ""}, {words: "reset="}, {words: "reset=run dtr=on"}, {words: "dtr=on reset=run"}, {words: "dtr"}, {words: "dtr=unchanged"},
		{words: "dtr=high"}, {words: "break=0s"}, {words: "break=11s"}, {words: "break=on"}, {words: "cts=on"},
		{words: "break=9s break=9s"}, {words: strings.Repeat("dtr=on ", 40)},
	} {
		have, recipe, err := profile.ParseSignal(strings.Fields(test.words))
		refused := test.steps == nil && test.recipe == ""
		if !reflect.DeepEqual(have, test.steps) || recipe != test.recipe || refused != errors.Is(err, profile.ErrProfile) || !refused && err != nil {
			t.Errorf("%q: %+v, %q, %v", test.words, have, recipe, err)
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add("dtr=off rts=on break=250ms")
	f.Add("reset=run")
	f.Fuzz(func(t *testing.T, text string) {
		steps, recipe, err := profile.ParseSignal(strings.Fields(text))
		switch {
		case err != nil && !errors.Is(err, profile.ErrProfile):
			t.Error(err)
		case err == nil && (recipe == "") == (steps == nil):
			t.Errorf("%q: %+v and %q", text, steps, recipe)
		case err == nil && steps != nil && (profile.Recipe{Name: "x", Steps: steps}).Check() != nil:
			t.Errorf("%q: steps that cannot run", text)
		}
	})
}
