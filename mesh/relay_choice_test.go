package mesh_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
	"github.com/serialspan/serialspan/mesh/roster"
)

// TestRelaysOfALargeMesh has two members behind symmetric NATs reach each other
// at once after they were silent for long: there are more relays than each keeps
// a path to, and its router lets in no others.
func TestRelaysOfALargeMesh(t *testing.T) {
	overSeeds(t, 1, "first byte", func(t *testing.T, seed uint64) (worst time.Duration) {
		net := meshtest.NewSeeded(t, lan, seed)
		const members, relays = 30, 12
		o := meshtest.Options{Protocols: []string{"chat/1"}, Relay: mesh.RelayOn, PassThrough: true}
		all := []*meshtest.Node{net.Start("r0", o)}
		o.Join = all[:1:1]
		for i := 1; i < members; i++ {
			name := fmt.Sprintf("r%d", i)
			if i >= relays {
				name, o.Relay = fmt.Sprintf("m%d", i), mesh.RelayOff
			}
			if i >= members-2 {
				o.NAT = meshtest.NAT{Kind: meshtest.Symmetric, Timeout: 30 * time.Second}
			}
			all = append(all, net.Start(name, o))
		}
		a, b := all[members-2], all[members-1]
		until(t, time.Minute, "one membership", func() string { return disagreement(all) })
		for round := range 4 {
			time.Sleep(75 * time.Second) // a record may change each minute
			if round%2 == 1 {
				a.Crash()
				a = a.Restart()
				until(t, time.Minute, "a and b to know each other", func() string { return disagreement([]*meshtest.Node{a, b}) })
			}
			// In a mesh of hundreds, gossip would not have met the others for long.
			b.ForgetFlows(doors(t, b, all[:relays])...)
			first := say(t, a, b)
			t.Logf("first byte after %v, %q and %q", first, path(a, b), path(b, a))
			worst = max(worst, first)
			a, b = b, a
		}
		if worst > time.Second {
			t.Errorf("first byte after %v", worst)
		}
		return worst
	})
}

// doors returns the relays that a member's record names, of which there must be
// three.
func doors(t *testing.T, n *meshtest.Node, relays []*meshtest.Node) (doors []*meshtest.Node) {
	t.Helper()
	through := n.RecordOf(n.Self()).Record().Through
	for _, r := range relays {
		if slices.Contains(through, roster.HintOf(r.Self())) {
			doors = append(doors, r)
		}
	}
	if len(doors) < roster.MaxThrough {
		t.Errorf("%s names %d relays", n.Name, len(doors))
	}
	return doors
}
