package mesh_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// TestNATKinds has two members behind routers of every kind reach each other,
// through a third where the routers leave no other way, and again at once after
// they were silent for longer than the routers remember them.
func TestNATKinds(t *testing.T) {
	const none, cone, symmetric = meshtest.NoNAT, meshtest.Cone, meshtest.Symmetric
	for _, c := range []struct {
		name string
		a, b meshtest.NATKind
		path string // of a and b in use, a prefix
	}{
		{"one behind a cone", none, cone, "direct"},
		{"one behind a symmetric", none, symmetric, "direct"},
		{"both behind cones", cone, cone, "direct"},
		{"a cone and a symmetric", cone, symmetric, "via hub"},
		{"both behind symmetric", symmetric, symmetric, "via hub"},
	} {
		for _, timeout := range []time.Duration{30 * time.Second, 8 * time.Second} {
			forgets := timeout < 25*time.Second // sooner than probes keep it
			t.Run(fmt.Sprintf("%s, %v", c.name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := meshtest.New(t, lan)
					hub := net.Start("hub", meshtest.Options{Relay: mesh.RelayOn})
					start := func(name string, kind meshtest.NATKind) *meshtest.Node {
						return net.Start(name, meshtest.Options{
							Protocols: []string{"chat/1"}, Join: []*meshtest.Node{hub}, Relay: mesh.RelayOff,
							NAT: meshtest.NAT{Kind: kind, Timeout: timeout},
						})
					}
					a, b := start("a", c.a), start("b", c.b)
					net.WaitFor(10*time.Second, "all to see all alive", allAlive(hub, a, b))
					nodes := []*meshtest.Node{a, b}
					for round, idle := range []time.Duration{0, 6 * time.Minute, 11 * time.Minute} {
						time.Sleep(idle)
						from, to := nodes[round%2], nodes[(round+1)%2]
						first := say(t, from, to)
						t.Logf("idle for %v: first byte %s to %s after %v, %q", idle, from.Name, to.Name, first, path(from, to))
						bound := time.Second
						if forgets {
							// It comes back with what gossip sends every 5 s, and by then
							// dials have given up and are made again.
							bound = 20 * time.Second
						}
						if first > bound {
							t.Errorf("idle for %v: first byte after %v", idle, first)
						}
					}
					settled := func() bool {
						if forgets && path(a, b) == "via hub" && path(b, a) == "via hub" {
							return true // the two have to look at once, and look each minute
						}
						return strings.HasPrefix(path(a, b), c.path) && strings.HasPrefix(path(b, a), c.path)
					}
					// The pause between looks for a straight path grows to a minute.
					pump(t, a, b, func() { net.WaitFor(90*time.Second, "path "+c.path, settled) })
					if !settled() {
						t.Errorf("paths %q and %q", path(a, b), path(b, a))
					}
				})
			})
		}
	}
}

// TestNATIsKeptOpen has a member behind a router keep the flow to a relay alive,
// by which those reach it that the router does not let in: in a larger mesh a
// pair meets too rarely for the router to remember it.
func TestNATIsKeptOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		o := meshtest.Options{Protocols: []string{"chat/1"}, Relay: mesh.RelayOn}
		hub := net.Start("hub", o)
		o.Join, o.Relay = []*meshtest.Node{hub}, mesh.RelayOff
		all := []*meshtest.Node{hub}
		for i := range 12 {
			all = append(all, net.Start(fmt.Sprintf("m%d", i), o))
		}
		o.NAT = meshtest.NAT{Kind: meshtest.Symmetric, Timeout: 30 * time.Second}
		edge := net.Start("edge", o)
		until(t, time.Minute, "one membership", func() string { return disagreement(append(all, edge)) })
		for _, n := range all[1:4] {
			time.Sleep(5 * time.Minute)
			first := say(t, n, edge)
			t.Logf("%s to the edge: first byte after %v, %q", n.Name, first, path(n, edge))
			if first > time.Second {
				t.Errorf("first byte after %v", first)
			}
		}
		// A member without a router sends when gossip has something for the hub.
		kept, other := edge.Silence(hub), all[1].Silence(hub)
		t.Logf("the edge was silent to the hub for %v, a member without a router for %v", kept, other)
		if kept > 27*time.Second {
			t.Errorf("the edge was silent to the hub for %v; a probe goes each 25 s", kept)
		}
	})
}
