package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// TestTimeToMember measures from the start of an agent to its being alive at
// all members and they at it: the first start, and one after a loss of power
// with a boot counter and a wall clock of years ago.
func TestTimeToMember(t *testing.T) {
	for _, c := range []struct {
		loss  float64
		bound time.Duration
	}{
		{0, 2 * time.Second},
		{0.05, 10 * time.Second},
		// Every other try of the join fails, and pauses grow to 5 s: twelve tries.
		{0.30, time.Minute},
	} {
		link := lan
		link.Loss = c.loss
		for _, again := range []bool{false, true} {
			name := map[bool]string{false: "first start", true: "restart with old epoch and clock"}[again]
			t.Run(fmt.Sprintf("loss %.0f %%, %s", 100*c.loss, name), func(t *testing.T) {
				overSeeds(t, 5, "member", func(t *testing.T, seed uint64) time.Duration {
					net := meshtest.NewSeeded(t, link, seed)
					nodes := crowd(t, net, 3, meshtest.Options{})
					var years atomic.Int32
					start := time.Now()
					edge := net.Start("edge", meshtest.Options{
						Join: nodes[:1], Wall: func() time.Time { return time.Now().AddDate(-int(years.Load()), 0, 0) },
					})
					if again {
						for range 3 { // epochs to fall behind
							until(t, 3*time.Minute, "the edge to be in", func() string { return disagreement(append(nodes, edge)) })
							edge.Crash()
							edge = edge.Restart()
						}
						until(t, 3*time.Minute, "the edge to be in", func() string { return disagreement(append(nodes, edge)) })
						edge.Crash()
						if err := os.WriteFile(filepath.Join(edge.Dir, "epoch"), []byte("1\n"), 0o600); err != nil {
							t.Fatal(err)
						}
						years.Store(10)
						time.Sleep(5 * time.Second)
						start = time.Now()
						edge = edge.Restart()
					}
					until(t, c.bound, "the edge to be a member", func() string { return disagreement(append(nodes, edge)) })
					return time.Since(start)
				})
			})
		}
	}
}

// TestBadWeather has members on a network that loses, doubles and
// reorders datagrams, with clocks that step: all stay members, whom one takes
// for dead is alive again soon, and what each says arrives everywhere.
func TestBadWeather(t *testing.T) {
	for _, c := range []struct {
		loss   float64
		settle time.Duration // for one membership to be there
		daily  []int         // sizes
	}{{0.01, 30 * time.Second, []int{10}}, {0.05, time.Minute, nil}, {0.10, time.Minute, []int{10}}, {0.30, 3 * time.Minute, []int{10}}} {
		for _, members := range sizes(t, c.daily, 50) {
			t.Run(fmt.Sprintf("%d members, loss %.0f %%", members, 100*c.loss), func(t *testing.T) {
				overSeeds(t, 1, "records everywhere", func(t *testing.T, seed uint64) time.Duration {
					return weather(t, seed, members, c.loss, c.settle)
				})
			})
		}
	}
}

func weather(t *testing.T, seed uint64, members int, loss float64, settle time.Duration) (worst time.Duration) {
	random := rand.New(rand.NewPCG(seed, 1))
	link := meshtest.Link{Delay: 10 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: loss, Twice: 0.05}
	net := meshtest.NewSeeded(t, link, seed)
	var nodes []*meshtest.Node
	steps := make([]atomic.Int64, members)
	for i := range members {
		o := meshtest.Options{Wall: func() time.Time { return time.Now().Add(time.Duration(steps[i].Load())) }}
		if i > 0 {
			o.Join = nodes[:1]
		}
		nodes = append(nodes, net.Start(fmt.Sprintf("m%d", i), o))
	}
	first := until(t, 2*settle, "the first membership", func() string { return disagreement(nodes) })
	t.Logf("first membership after %v", first)
	deaths, longest := 0, time.Duration(0)
	for range 2 {
		// A clock steps either way by up to three years, and a member restarts.
		steps[random.IntN(members)].Add(int64((random.Float64() - 0.5) * float64(6*365*24*time.Hour)))
		i := 1 + random.IntN(members-1)
		nodes[i].Crash()
		nodes[i] = nodes[i].Restart()
		worst = max(worst, until(t, settle, "one membership", func() string { return disagreement(nodes) }))
		n, how := falseDeaths(nodes, 90*time.Second)
		deaths, longest = deaths+n, max(longest, how)
	}
	t.Logf("%d times a living member was taken for dead by another, for %v at most", deaths, longest)
	if longest > 30*time.Second {
		t.Errorf("a living member was taken for dead for %v", longest)
	}
	until(t, settle, "one membership at the end", func() string { return disagreement(nodes) })
	return worst
}

// falseDeaths watches for so long how many pairs there are of which one takes
// the other, who lives, for dead, and how long that lasted.
func falseDeaths(nodes []*meshtest.Node, during time.Duration) (deaths int, longest time.Duration) {
	type pair struct{ viewer, other string }
	since := make(map[pair]time.Time)
	for start := time.Now(); time.Since(start) < during; time.Sleep(5 * time.Second) {
		for _, viewer := range nodes {
			for _, m := range viewer.Members() {
				p := pair{viewer.Name, m.Name}
				at, wrong := since[p]
				switch {
				case m.State == mesh.Alive && wrong:
					delete(since, p)
				case m.State != mesh.Alive && !wrong:
					deaths++
					since[p] = time.Now()
				case m.State != mesh.Alive:
					longest = max(longest, time.Since(at))
				}
			}
		}
	}
	return deaths, longest
}
