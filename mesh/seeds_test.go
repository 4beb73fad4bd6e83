package mesh_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

const (
	// manyVariable is how many seeds a test over seeds goes through, in place of
	// the few that it can afford each day under the race detector. With it, the
	// large meshes are tested too.
	manyVariable = "SERIALSPAN_TEST_SEEDS"
	// oneVariable is a seed to run alone, as a failed test names it.
	oneVariable = "SERIALSPAN_TEST_SEED"
)

// overSeeds runs f in a bubble for each of a number of seeds, and logs the
// median and the worst of what f measures. The seed draws keys, NodeIDs and the
// network's losses; the scheduler and Go's own random numbers are not in its
// hand, so a failing seed may need a few runs to fail again.
func overSeeds(t *testing.T, few int, what string, f func(t *testing.T, seed uint64) time.Duration) {
	t.Helper()
	first, last := uint64(1), uint64(few)
	if n := number(t, manyVariable); n > 0 {
		last = n
	}
	if n := number(t, oneVariable); n > 0 {
		first, last = n, n
	}
	var took []time.Duration
	start := time.Now()
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			synctest.Test(t, func(t *testing.T) {
				one := f(t, seed)
				t.Logf("%s: %v", what, one.Round(time.Millisecond))
				took = append(took, one)
			})
			if t.Failed() {
				t.Logf("again: %s=%d go test -run '%s' ./mesh", oneVariable, seed, t.Name())
			}
		})
	}
	if len(took) > 0 {
		slices.Sort(took)
		t.Logf("%s: median %v, worst %v over %d seeds (in %v)", what, took[len(took)/2].Round(time.Millisecond),
			took[len(took)-1].Round(time.Millisecond), len(took), time.Since(start).Round(100*time.Millisecond))
	}
}

// sizes adds the large ones where the variable asks for many seeds.
func sizes(t *testing.T, daily []int, large ...int) []int {
	t.Helper()
	if number(t, manyVariable) > 0 {
		return append(daily, large...)
	}
	return daily
}

func number(t *testing.T, variable string) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number", variable, text)
	}
	return n
}

// until waits for problem to return "", looking every 50 ms of virtual time:
// many nodes cost too much to be looked at each millisecond. It fails the test
// after limit, with the problem, and returns how long it took.
func until(t *testing.T, limit time.Duration, what string, problem func() string) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		p := problem()
		took := time.Since(start)
		if p == "" {
			return took
		}
		if took >= limit {
			t.Fatalf("waited %v for %s: %s", limit, what, p)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// disagreement returns in what a node's view differs from all nodes being alive
// with their newest records, "" for nothing.
func disagreement(nodes []*meshtest.Node) string {
	for _, viewer := range nodes {
		states := make(map[string]mesh.State)
		for _, m := range viewer.Members() {
			states[m.ID.String()] = m.State
		}
		for _, n := range nodes {
			if s := states[n.Self().String()]; s != mesh.Alive {
				return fmt.Sprintf("%s is %v at %s", n.Name, s, viewer.Name)
			}
			if known, own := viewer.RecordOf(n.Self()), n.RecordOf(n.Self()); !slices.Equal(known.Wire(), own.Wire()) {
				return fmt.Sprintf("%s has an old record of %s", viewer.Name, n.Name)
			}
		}
	}
	return ""
}
