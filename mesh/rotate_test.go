package mesh_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// start starts nodes of these names that join through the first.
func start(net *meshtest.Network, o meshtest.Options, names ...string) []*meshtest.Node {
	var nodes []*meshtest.Node
	for _, name := range names {
		nodes = append(nodes, net.Start(name, o))
		o.Join = nodes[:1]
	}
	net.WaitFor(10*time.Second, "all to see all alive", allAlive(nodes...))
	return nodes
}

// onKey reports whether all nodes use one secret of this key number.
func onKey(number uint32, nodes ...*meshtest.Node) func() bool {
	return func() bool {
		for _, n := range nodes {
			if n.Secret().KeyNumber != number || n.Secret() != nodes[0].Secret() {
				return false
			}
		}
		return true
	}
}

func rotate(t *testing.T, net *meshtest.Network, on *meshtest.Node, o mesh.RotateOptions) uint32 {
	t.Helper()
	number, err := on.Rotate(o)
	if err != nil {
		t.Fatal(err)
	}
	net.WaitFor(time.Minute, "the rotation to be done", func() bool { return on.Keys().Rotation.Phase == mesh.PhaseDone })
	return number
}

// problems returns what a node says of the cluster secret and of how joining
// goes.
func problems(n *meshtest.Node) string {
	all := strings.Join(n.Keys().Problems, "\n")
	for _, j := range n.Joins() {
		all += fmt.Sprintf("\n%v", j.Err)
	}
	return all
}

// A member is away during 1 to 5 rotations, with the secret of before in its
// file and its state directory: it comes back as long as its secret is accepted,
// then it is told that it is too old, and at last it is a stranger.
func TestRotateWhileOneIsAway(t *testing.T) {
	for rotations := uint32(1); rotations <= 5; rotations++ {
		t.Run(fmt.Sprint(rotations), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				nodes := start(net, meshtest.Options{}, "hub", "edge", "consumer", "other", "away")
				there, away := nodes[:4], nodes[4]
				away.Stop()
				net.WaitFor(5*time.Second, "its farewell", func() bool { return there[1].State(away) != mesh.Alive })
				for i := range rotations {
					on := there[i%2]
					began := time.Now()
					rotate(t, net, on, mesh.RotateOptions{})
					net.WaitFor(time.Second, "all to use the new secret", onKey(i+2, there...))
					if i == 0 {
						t.Logf("rotation took %v", time.Since(began))
						r := on.Keys().Rotation
						if len(r.Has) != 3 || !strings.HasPrefix(r.Missing[away.Self()], "away") {
							t.Errorf("rotation says %+v, want 3 that have it, and one away", r)
						}
					}
				}
				if !allAlive(there...)() {
					t.Error("members lost each other over rotations")
				}
				before := there[0].Status()
				away = away.Restart()
				switch {
				case rotations <= keyring.Accepted:
					took := net.WaitFor(5*time.Second, "it to have the new secret", onKey(rotations+1, append(there, away)...))
					t.Logf("back with the new secret after %v", took)
					net.WaitFor(5*time.Second, "all to see it alive", allAlive(append(there, away)...))
					net.WaitFor(5*time.Second, "who rotated to know that all have it", func() bool {
						r := there[(rotations-1)%2].Keys().Rotation
						return len(r.Has) == 4 && len(r.Missing) == 0
					})
					if p := problems(away); strings.Contains(p, "secret") {
						t.Errorf("it says %q", p)
					}
				case rotations <= keyring.Accepted+keyring.Named:
					word := fmt.Sprintf("this member's secret is %d rotations old", rotations)
					net.WaitFor(5*time.Second, "it to be told", func() bool { return strings.Contains(problems(away), word) })
					if !strings.Contains(problems(away), "next step: copy the secret file") {
						t.Errorf("it is not told what to do: %q", problems(away))
					}
				default:
					time.Sleep(time.Minute)
					after := there[0].Status()
					if after.JoinAnswered != before.JoinAnswered || after.JoinJunk == before.JoinJunk {
						t.Errorf("a stranger was answered %d times, %d messages did not open", after.JoinAnswered-before.JoinAnswered, after.JoinJunk-before.JoinJunk)
					}
					if !strings.Contains(problems(away), "no answer") {
						t.Errorf("it says %q", problems(away))
					}
				}
				if rotations > keyring.Accepted && away.Secret().KeyNumber != 1 {
					t.Errorf("it was given key %d", away.Secret().KeyNumber)
				}
			})
		})
	}
}

// Whoever got hold of an old secret makes no new member with it, and is told;
// with --drop-old even a former member does not come back.
func TestOldSecretMakesNoNewMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		nodes := start(net, meshtest.Options{}, "hub", "edge", "away")
		away := nodes[2]
		away.Stop()
		rotate(t, net, nodes[0], mesh.RotateOptions{})
		thief := net.Start("thief", meshtest.Options{Join: nodes[:1]})
		net.WaitFor(5*time.Second, "the newcomer to be told", func() bool {
			return strings.Contains(problems(thief), "this member's secret is 1 rotation old") && strings.Contains(problems(thief), "former members only")
		})
		if thief.Secret().KeyNumber != 1 || nodes[0].State(thief) == mesh.Alive {
			t.Error("a newcomer with an old secret was let in")
		}
		rotate(t, net, nodes[1], mesh.RotateOptions{DropOld: true})
		away = away.Restart()
		net.WaitFor(5*time.Second, "the former member to be told", func() bool {
			return strings.Contains(problems(away), "this member's secret is 2 rotations old")
		})
	})
}

// Both halves of a partition rotate; one does so twice. When they meet, all end
// with one secret, in both orders of who is asked and who asks.
func TestRotateDuringPartition(t *testing.T) {
	for _, turns := range [][2]int{{1, 0}, {1, 1}, {0, 2}, {2, 1}} {
		t.Run(fmt.Sprint(turns), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				nodes := start(net, meshtest.Options{}, "a", "b", "c", "d")
				one, other := nodes[:2], nodes[2:]
				net.Cut(one, other)
				net.WaitFor(2*time.Minute, "the halves to lose each other", func() bool {
					return one[0].State(other[0]) == mesh.Dead && one[0].State(other[1]) == mesh.Dead &&
						other[0].State(one[0]) == mesh.Dead && other[1].State(one[0]) == mesh.Dead
				})
				for i, half := range [][]*meshtest.Node{one, other} {
					for range turns[i] {
						rotate(t, net, half[1], mesh.RotateOptions{})
					}
				}
				net.Heal(one, other)
				took := net.WaitFor(time.Minute, "one secret everywhere", onKey(uint32(1+max(turns[0], turns[1])), nodes...))
				t.Logf("one secret %v after the halves met", took)
				net.WaitFor(time.Minute, "all to see all alive", allAlive(nodes...))
			})
		})
	}
}

// Two members rotate at the same moment: one of the two secrets counts.
func TestRotateTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		nodes := start(net, meshtest.Options{}, "a", "b", "c")
		for _, n := range nodes[:2] {
			if _, err := n.Rotate(mesh.RotateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		net.WaitFor(time.Minute, "both rotations to end", func() bool {
			a, b := nodes[0].Keys().Rotation.Phase, nodes[1].Keys().Rotation.Phase
			return a >= mesh.PhaseDone && b >= mesh.PhaseDone
		})
		net.WaitFor(10*time.Second, "one secret everywhere", onKey(2, nodes...))
	})
}

// The member that rotates loses its power at every step; what it began comes to
// an end when it is back, and nobody is lost.
func TestRotationSurvivesACrash(t *testing.T) {
	for _, after := range []time.Duration{0, 15, 35, 55, 75, 120, 1500} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				nodes := start(net, meshtest.Options{}, "a", "b", "c")
				if _, err := nodes[1].Rotate(mesh.RotateOptions{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(after * time.Millisecond)
				nodes[1].Crash()
				time.Sleep(time.Minute)
				nodes[1] = nodes[1].Restart()
				net.WaitFor(time.Minute, "one secret everywhere", onKey(2, nodes...))
				net.WaitFor(time.Minute, "all to see all alive", allAlive(nodes...))
			})
		})
	}
}

// Where there are administrators, new secrets of others are refused and said to
// be.
func TestRotateByAdminsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		var admins []identity.NodeID
		listed := meshtest.Options{Admins: func() []identity.NodeID { return admins }}
		nodes := start(net, listed, "admin", "b", "c")
		open := net.Start("open", meshtest.Options{Join: nodes[:1]})
		net.WaitFor(10*time.Second, "all to see all alive", allAlive(append(nodes, open)...))
		admins = []identity.NodeID{nodes[0].Self()}
		if _, err := nodes[1].Rotate(mesh.RotateOptions{}); !errors.Is(err, mesh.ErrNotAdmin) {
			t.Errorf("rotation by another: %v", err)
		}
		rotate(t, net, open, mesh.RotateOptions{}) // its own configuration has no administrators
		if onKey(2, nodes...)() || !strings.Contains(problems(nodes[1]), "not in cluster.admins here") {
			t.Errorf("a secret of a node that is no administrator was taken, or not spoken of: %q", problems(nodes[1]))
		}
		if text := open.Keys().Rotation.Missing[nodes[1].Self()]; !strings.Contains(text, "refused") {
			t.Errorf("the rotating node says of the one that refused: %q", text)
		}
		rotate(t, net, nodes[0], mesh.RotateOptions{})
		if !onKey(2, nodes...)() {
			t.Error("the administrator's secret was not taken")
		}
	})
}

// Nobody uses the new secret before everybody that can be reached has it, on bad
// links too.
func TestHandedOutBeforeUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		var nodes []*meshtest.Node
		var lacking []string
		first := true
		o := meshtest.Options{OnSecret: func(identity.Secret) {
			if !first {
				return
			}
			first = false
			for _, n := range nodes {
				if k := n.Keys(); k.Next != 2 && k.Number != 2 {
					lacking = append(lacking, n.Name)
				}
			}
		}}
		nodes = start(net, o, "a", "b", "c", "d", "e")
		for i, n := range nodes {
			for _, other := range nodes[:i] {
				net.SetLink(n, other, meshtest.Link{Delay: 10 * time.Millisecond, Loss: 0.2})
			}
		}
		began := time.Now()
		rotate(t, net, nodes[3], mesh.RotateOptions{})
		t.Logf("with 20 %% loss the rotation took %v", time.Since(began))
		if first || len(lacking) > 0 {
			t.Errorf("the new secret was used (%v) while %v lacked it", !first, lacking)
		}
		net.WaitFor(10*time.Second, "all to use it", onKey(2, nodes...))
	})
}
