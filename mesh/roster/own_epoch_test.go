package roster_test

import (
	"testing"

	"github.com/serialspan/serialspan/mesh/roster"
)

func TestOwnEpoch(t *testing.T) {
	const us, other, third = 1, 2, 3
	rec := func(start byte, epoch, sequence uint64) roster.Signed {
		return sign(t, node(1), plain(start, epoch, sequence))
	}
	type step struct {
		ours, held roster.Signed
		want       roster.Verdict
		epoch      uint64
	}
	for name, steps := range map[string][]step{
		"nothing held":              {{rec(us, 5, 1), roster.Signed{}, roster.Fine, 0}},
		"nothing ours":              {{roster.Signed{}, rec(other, 5, 1), roster.Fine, 0}},
		"another node":              {{rec(us, 5, 1), sign(t, node(2), plain(other, 9, 9)), roster.Fine, 0}},
		"our own":                   {{rec(us, 5, 1), rec(us, 5, 1), roster.Fine, 0}},
		"our own of before":         {{rec(us, 5, 2), rec(us, 5, 1), roster.Fine, 0}},
		"an ordinary restart":       {{rec(us, 5, 1), rec(other, 4, 900), roster.Fine, 0}},
		"same epoch, behind":        {{rec(us, 5, 2), rec(other, 5, 1), roster.Fine, 0}},
		"same epoch and sequence":   {{rec(us, 5, 1), rec(other, 5, 1), roster.JumpTo, 6}},
		"same epoch, ahead":         {{rec(us, 5, 1), rec(other, 5, 7), roster.JumpTo, 6}},
		"disk restored":             {{rec(us, 5, 1), rec(other, 90, 1), roster.JumpTo, 91}},
		"no room to jump":           {{rec(us, 5, 1), rec(other, roster.MaxCount, 1), roster.TwoMachines, 0}},
		"told again before signing": {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 5, 1), rec(other, 9, 1), roster.Fine, 0}},
		"told again after signing":  {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 10, 1), rec(other, 9, 1), roster.Fine, 0}},
		"it goes on in its epoch":   {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 10, 1), rec(other, 9, 8), roster.Fine, 0}},
		"it answers the jump":       {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 10, 1), rec(other, 11, 1), roster.TwoMachines, 0}},
		"a second foreign start":    {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 10, 1), rec(third, 10, 1), roster.TwoMachines, 0}},
		"a third life, older":       {{rec(us, 5, 1), rec(other, 9, 1), roster.JumpTo, 10}, {rec(us, 10, 1), rec(third, 7, 1), roster.Fine, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var o roster.OwnEpoch
			for i, s := range steps {
				if got, epoch := o.Decide(s.ours, s.held); got != s.want || epoch != s.epoch {
					t.Errorf("step %d: %s %d, want %s %d", i+1, got, epoch, s.want, s.epoch)
				}
			}
		})
	}
}

// TestTwoMachinesFindOut runs one identity twice: at least one must notice,
// however far apart they begin and whoever is told first.
func TestTwoMachinesFindOut(t *testing.T) {
	for _, row := range []struct {
		name   string
		epochs [2]uint64
		first  int
	}{
		{"level", [2]uint64{3, 3}, 0},
		{"behind is told first", [2]uint64{3, 900}, 0},
		{"ahead is told first", [2]uint64{3, 900}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var judges [2]roster.OwnEpoch
			ours := [2]roster.Signed{sign(t, node(1), plain(1, row.epochs[0], 1)), sign(t, node(1), plain(2, row.epochs[1], 1))}
			for turn := range 8 {
				i := (row.first + turn) % 2
				switch verdict, epoch := judges[i].Decide(ours[i], ours[1-i]); verdict {
				case roster.JumpTo:
					ours[i] = sign(t, node(1), plain(byte(i+1), epoch, 1))
				case roster.TwoMachines:
					return
				}
			}
			t.Error("neither found out")
		})
	}
}
