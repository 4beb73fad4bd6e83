package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// TestPartitionHeals splits a mesh into halves that are healthy for an hour, in
// which members restart, leave, die and are forgotten, and joins the halves:
// one membership again, with the newest records, and none of those that are
// gone comes back.
func TestPartitionHeals(t *testing.T) {
	for _, half := range sizes(t, []int{3}, 10) {
		t.Run(fmt.Sprintf("%d+%d", half, half), func(t *testing.T) {
			overSeeds(t, 1, "one membership again", func(t *testing.T, seed uint64) time.Duration {
				return partition(t, seed, half)
			})
		})
	}
}

// gone are members that must stay what they are.
type gone struct {
	forgotten *meshtest.Node // died before the split, longer ago than ForgetAfter
	dead      *meshtest.Node // died during the split, in the first half
	left      *meshtest.Node // left during the split, in the second half
	restarted map[*meshtest.Node]bool
}

// problem returns what has come back from the dead, "" for nothing.
func (g gone) problem(nodes []*meshtest.Node) string {
	for _, n := range nodes {
		// One that has restarted since may remember it from its disk, and begins
		// to count anew: no clock tells it for how long it was off itself.
		if m, known := n.Member(g.forgotten); known && !(m.State == mesh.Known && g.restarted[n]) {
			return fmt.Sprintf("%s knows the forgotten one, as %v", n.Name, m.State)
		}
		for _, other := range []*meshtest.Node{g.dead, g.left} {
			if s := n.State(other); s == mesh.Alive {
				return fmt.Sprintf("%s takes %s, who is gone, for alive", n.Name, other.Name)
			}
		}
	}
	return ""
}

func partition(t *testing.T, seed uint64, size int) time.Duration {
	random := rand.New(rand.NewPCG(seed, 0))
	link := meshtest.Link{Delay: time.Duration(1+random.IntN(50)) * time.Millisecond, Loss: 0.05 * random.Float64()}
	net := meshtest.NewSeeded(t, link, seed)
	o := meshtest.Options{ForgetAfter: 65 * time.Minute}
	var halves [2][]*meshtest.Node
	start := func(half int, name string) *meshtest.Node {
		n := net.Start(name, o)
		if len(o.Join) == 0 {
			o.Join = []*meshtest.Node{n}
		}
		halves[half] = append(halves[half], n)
		return n
	}
	for half := range halves {
		for i := range size {
			start(half, fmt.Sprintf("%c%d", 'a'+half, i))
		}
	}
	g := gone{
		forgotten: start(0, "forgotten"), dead: start(0, "dead"), left: start(1, "left"),
		restarted: make(map[*meshtest.Node]bool),
	}
	all := append(append([]*meshtest.Node{}, halves[0]...), halves[1]...)
	until(t, time.Minute, "the first membership", func() string { return disagreement(all) })
	g.forgotten.Crash()
	time.Sleep(8 * time.Minute)

	net.Cut(halves[0], halves[1])
	time.Sleep(10 * time.Minute)
	g.dead.Crash()
	g.left.Stop()
	for half := range halves {
		halves[half] = halves[half][:size]
		// New epoch and key, of which the other half hears nothing.
		i := random.IntN(size)
		halves[half][i].Crash()
		halves[half][i] = halves[half][i].Restart()
		g.restarted[halves[half][i]] = true
	}
	time.Sleep(50 * time.Minute)
	for half, one := range halves {
		if p := disagreement(one); p != "" {
			t.Fatalf("half %d is not healthy after an hour: %s", half, p)
		}
		for _, n := range one {
			for _, other := range halves[1-half] {
				if n.State(other) == mesh.Alive {
					t.Fatalf("%s takes %s for alive, whom it cannot reach", n.Name, other.Name)
				}
			}
		}
	}

	// So that the join does not come at the same moment of all timers.
	time.Sleep(time.Duration(random.Int64N(int64(time.Minute))))
	net.Heal(halves[0], halves[1])
	all = append(append([]*meshtest.Node{}, halves[0]...), halves[1]...)
	took := until(t, time.Minute, "one membership again", func() string { return disagreement(all) })
	for range 6 {
		if p := g.problem(all); p != "" {
			t.Error(p)
		}
		time.Sleep(30 * time.Second)
	}
	if p := disagreement(all); p != "" {
		t.Errorf("three minutes later: %s", p)
	}
	return took
}
