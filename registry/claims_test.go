package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func withClaims(claims map[string]uint32) func(*registry.Config) {
	return func(c *registry.Config) { c.Claims = claims }
}

// claims returns who claims a name with what number, as r sees it.
func claims(r *registry.Registry, name string) map[identity.NodeID]uint32 {
	m := make(map[identity.NodeID]uint32)
	for _, s := range r.Devices(0) {
		if s.Device.Name == name {
			m[s.Owner] = s.Claim
		}
	}
	return m
}

func TestClaimNumbers(t *testing.T) {
	stick := registry.Device{Name: "zwave"}
	t.Run("the first has 1, each later one 1 + the highest, and they are saved", func(t *testing.T) {
		a, c := node(t, 2), node(t, 0)
		saved := map[string]uint32{}
		b := node(t, 1, func(c *registry.Config) {
			c.SaveClaims = func(m map[string]uint32) error { saved = m; return nil }
		})
		deliver(t, 0, publish(t, a, 0, stick), b, c)
		deliver(t, 0, publish(t, b, 0, stick, registry.Device{Name: "other"}), a, c)
		deliver(t, 0, publish(t, c, 0, stick), a, b)
		want := map[identity.NodeID]uint32{ident(2).ID(): 1, ident(1).ID(): 2, ident(0).ID(): 3}
		for _, r := range []*registry.Registry{a, b, c} {
			if got := claims(r, "zwave"); !maps.Equal(got, want) {
				t.Errorf("claims %v, want %v", got, want)
			}
		}
		if !maps.Equal(saved, map[string]uint32{"zwave": 2, "other": 1}) {
			t.Errorf("saved %v", saved)
		}
	})
	t.Run("a kept claim is used again", func(t *testing.T) {
		a, b := node(t, 0), node(t, 1, withClaims(map[string]uint32{"zwave": 7}))
		deliver(t, 0, publish(t, a, 0, stick), b)
		deliver(t, 0, publish(t, b, 0, stick), a)
		if got := claims(a, "zwave")[ident(1).ID()]; got != 7 {
			t.Errorf("claim %d, want 7", got)
		}
	})
	t.Run("a new claim made in ignorance of an old one gives way, once", func(t *testing.T) {
		old := node(t, 1, withClaims(map[string]uint32{"zwave": 1}))
		fresh := node(t, 0) // would win a tie
		fromFresh, fromOld := publish(t, fresh, 0, stick), publish(t, old, 0, stick)
		deliver(t, time.Second, fromFresh, old)
		deliver(t, time.Second, fromOld, fresh)
		for _, r := range []*registry.Registry{old, fresh} {
			messages, err := r.Reconcile(time.Second)
			if err != nil {
				t.Fatal(err)
			}
			deliver(t, time.Second, messages, old, fresh)
		}
		want := map[identity.NodeID]uint32{ident(1).ID(): 1, ident(0).ID(): 2}
		if got := claims(fresh, "zwave"); !maps.Equal(got, want) {
			t.Errorf("claims %v, want %v", got, want)
		}
		if again, _ := fresh.Reconcile(2 * time.Second); again != nil {
			t.Error("raised again")
		}
	})
	t.Run("a claim that settled stays", func(t *testing.T) {
		a, b := node(t, 0), node(t, 1)
		publish(t, a, 0, stick)
		deliver(t, time.Hour, publish(t, b, 0, stick), a)
		if again, _ := a.Reconcile(time.Hour); again != nil || claims(a, "zwave")[ident(0).ID()] != 1 {
			t.Errorf("claims %v", claims(a, "zwave"))
		}
	})
	t.Run("no number after the largest", func(t *testing.T) {
		a, b := node(t, 0, withClaims(map[string]uint32{"zwave": math.MaxUint32})), node(t, 1)
		deliver(t, 0, publish(t, a, 0, stick), b)
		publish(t, b, 0, stick)
		if got := claims(b, "zwave")[ident(1).ID()]; got != math.MaxUint32 {
			t.Errorf("claim %d", got)
		}
	})
	t.Run("a failed save is told, and the device published", func(t *testing.T) {
		broken := errors.New("disk")
		r := node(t, 0, func(c *registry.Config) { c.SaveClaims = func(map[string]uint32) error { return broken } })
		if messages, err := r.Publish(0, []registry.Device{stick}); !errors.Is(err, broken) || len(messages) != 2 {
			t.Errorf("%d messages, error %v", len(messages), err)
		}
	})
}

// TestWhoHasTheName has nodes 0, 1 and 2 with claims of the name "zwave" and
// an observer, node 3.
func TestWhoHasTheName(t *testing.T) {
	const hold = 15 * time.Second
	free := registry.Device{Name: "zwave"}
	busy := registry.Device{Name: "zwave", State: registry.StateInUse}
	away := registry.Device{Name: "zwave", State: registry.StateAway}
	fault := registry.Device{Name: "zwave", State: registry.StateFault}
	type event struct {
		at     time.Duration
		owner  int // publishes device; -1: dead changes instead
		device registry.Device
		dead   []int
	}
	for _, row := range []struct {
		what     string
		claims   [3]uint32 // kept by the nodes
		events   []event
		at       time.Duration
		holder   int   // -1: nobody
		conflict []int // in order
	}{
		{"alone", [3]uint32{1}, []event{{0, 0, free, nil}}, 0, 0, nil},
		{"lowest claim", [3]uint32{2, 1, 3}, []event{{0, 0, free, nil}, {0, 1, free, nil}, {0, 2, free, nil}}, 0, 1, []int{0, 2}},
		{"equal claims: lowest NodeID", [3]uint32{4, 4, 4}, []event{{0, 2, free, nil}, {0, 1, free, nil}, {0, 0, free, nil}}, 0, 0, []int{1, 2}},
		{"dead owner", [3]uint32{1, 2}, []event{{0, 0, free, nil}, {0, 1, free, nil}, {1, -1, free, []int{0}}}, 1, 1, nil},
		{"all dead", [3]uint32{1, 2}, []event{{0, 0, free, nil}, {0, 1, free, nil}, {1, -1, free, []int{0, 1}}}, 1, -1, nil},
		{"away within hold", [3]uint32{1, 2}, []event{{0, 0, away, nil}, {0, 1, free, nil}}, hold, 0, []int{1}},
		{"away longer than hold", [3]uint32{1, 2}, []event{{0, 0, away, nil}, {0, 1, free, nil}}, hold + 1, 1, nil},
		{"hold counts from when it was first seen away", [3]uint32{1, 2}, []event{{0, 0, free, nil}, {0, 1, free, nil}, {5, 0, away, nil}}, hold + 5, 0, []int{1}},
		{"and not anew from a later word", [3]uint32{1, 2}, []event{{0, 0, away, nil}, {0, 1, free, nil},
			{9, 0, registry.Device{Name: "zwave", State: registry.StateAway, Detail: "still"}, nil}}, hold + 1, 1, nil},
		{"back within hold", [3]uint32{1, 2}, []event{{0, 0, away, nil}, {0, 1, free, nil}, {hold, 0, free, nil}}, 3 * hold, 0, []int{1}},
		{"a fault does not lose the name", [3]uint32{1, 2}, []event{{0, 0, fault, nil}, {0, 1, free, nil}}, 9 * hold, 0, []int{1}},
		{"a returning winner takes it from one that is free", [3]uint32{1, 2},
			[]event{{0, 0, away, nil}, {0, 1, free, nil}, {2 * hold, 0, free, nil}}, 2 * hold, 0, []int{1}},
		{"but not from one in use", [3]uint32{1, 2},
			[]event{{0, 0, away, nil}, {0, 1, free, nil}, {2 * hold, 1, busy, nil}, {3 * hold, 0, free, nil}}, 3 * hold, 1, []int{0}},
		{"not even if in use itself", [3]uint32{1, 2},
			[]event{{0, 0, away, nil}, {0, 1, free, nil}, {2 * hold, 1, busy, nil}, {3 * hold, 0, busy, nil}}, 3 * hold, 1, []int{0}},
		{"until that is released", [3]uint32{1, 2},
			[]event{{0, 0, away, nil}, {0, 1, free, nil}, {2 * hold, 1, busy, nil}, {3 * hold, 0, free, nil}, {4 * hold, 1, free, nil}}, 4 * hold, 0, []int{1}},
		{"or dies", [3]uint32{1, 2},
			[]event{{0, 0, away, nil}, {0, 1, free, nil}, {2 * hold, 1, busy, nil}, {3 * hold, 0, free, nil}, {4 * hold, -1, free, []int{1}}}, 4 * hold, 0, nil},
		{"the loser in use as name@node does not get the name", [3]uint32{1, 2},
			[]event{{0, 0, free, nil}, {0, 1, free, nil}, {1, 1, busy, nil}}, 1, 0, []int{1}},
		{"unless the winner goes and comes back", [3]uint32{1, 2},
			[]event{{0, 0, free, nil}, {0, 1, busy, nil}, {1, 0, away, nil}, {2 * hold, 1, busy, nil}, {3 * hold, 0, free, nil}}, 3 * hold, 1, []int{0}},
	} {
		t.Run(row.what, func(t *testing.T) {
			observer := node(t, 3)
			nodes := make([]*registry.Registry, 3)
			for i := range nodes {
				nodes[i] = node(t, i, withClaims(map[string]uint32{"zwave": row.claims[i]}))
			}
			all := append(slices.Clone(nodes), observer)
			for _, e := range row.events {
				if e.owner < 0 {
					for _, r := range all {
						r.SetMembers(members(e.dead...))
					}
					continue
				}
				deliver(t, e.at, publish(t, nodes[e.owner], e.at, e.device), all...)
				for _, r := range nodes {
					messages, err := r.Reconcile(e.at)
					if err != nil {
						t.Fatal(err)
					}
					deliver(t, e.at, messages, all...)
				}
			}
			holder, conflict := -1, []int(nil)
			for _, s := range observer.Devices(row.at) {
				n := slices.IndexFunc(idents, func(id *identity.Identity) bool { return id.ID() == s.Owner })
				if s.Holder {
					holder = n
				}
				if s.Conflict {
					conflict = append(conflict, n)
				}
			}
			if holder != row.holder || !slices.Equal(conflict, row.conflict) {
				t.Errorf("holder %d, in conflict %v; want %d, %v", holder, conflict, row.holder, row.conflict)
			}
			for _, n := range row.conflict {
				s, err := observer.Resolve(row.at, "zwave@"+nodeName(n))
				if err != nil || s.Owner != ident(n).ID() || !s.Conflict || s.Holder {
					t.Errorf("zwave@%s: %+v, %v", nodeName(n), s, err)
				}
			}
			// Who comes later has seen less and agrees, at the latest after hold.
			late := node(t, 4)
			late.SetMembers(members(row.events[len(row.events)-1].dead...))
			exchange(t, row.at, late, observer)
			then := row.at + hold + 1
			if got, want := fmt.Sprint(late.Devices(then)), fmt.Sprint(observer.Devices(then)); got != want {
				t.Errorf("the latecomer sees\n%s\nthe observer\n%s", got, want)
			}
		})
	}
}

func TestAdvanceTellsWhenHoldEnds(t *testing.T) {
	r := node(t, 1, func(c *registry.Config) { c.Hold = time.Minute })
	if _, ok := r.Advance(0); ok {
		t.Error("an empty registry waits for something")
	}
	deliver(t, 10*time.Second, publish(t, node(t, 0), 0, registry.Device{Name: "a", State: registry.StateAway}), r)
	changes, stop := r.Watch()
	defer stop()
	if next, ok := r.Advance(20 * time.Second); !ok || next != 70*time.Second || len(changes) != 0 {
		t.Errorf("before: next %v %v, told %d", next, ok, len(changes))
	}
	if _, ok := r.Advance(70 * time.Second); ok || len(changes) != 1 {
		t.Errorf("after: waits %v, told %d", ok, len(changes))
	}
	<-changes
	if r.Advance(71 * time.Second); len(changes) != 0 {
		t.Error("told twice")
	}
}
