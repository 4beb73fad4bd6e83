package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestKeyRotation: members get a new key behind the old one, put it in front one
// after the other, and drop the old one, while messages go round all the time;
// none is missed. A member that was left out is one no more.
func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, memnet.Link{Delay: 10 * time.Millisecond})
		nodes := []*node{c.start(1, 1, nil), c.start(2, 1, nil), c.start(3, 1, nil)}
		for _, n := range nodes[1:] {
			if err := n.Join(t.Context(), []identity.NodeID{nodes[0].id}); err != nil {
				t.Fatal(err)
			}
		}
		said := 0
		say := func() {
			for _, n := range nodes {
				said++
				if err := n.Broadcast("b", []byte{byte(said), byte(said >> 8)}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(500 * time.Millisecond)
			}
		}
		before, after := [32]byte{1, 2, 3}, [32]byte{4, 5, 6}
		last := nodes[2]
		for step, keys := range [][][32]byte{{before, after}, {after, before}, {after}} {
			for _, n := range nodes {
				if step == 2 && n == last {
					continue
				}
				if err := n.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				if step < 2 {
					say()
				}
			}
		}
		heard := 0
		for _, n := range nodes {
			n.mu.Lock()
			heard += len(n.messages)
			n.mu.Unlock()
		}
		if want := said * (len(nodes) - 1); heard != want {
			t.Errorf("%d of %d messages arrived while the key changed", heard, want)
		}
		// The last still accepts both and seals with the new one; now it goes
		// back to the old one alone, and nobody understands it.
		if err := last.SetKeys([][32]byte{before}); err != nil {
			t.Fatal(err)
		}
		if err := last.Join(t.Context(), []identity.NodeID{nodes[0].id}); err == nil {
			t.Error("a holder of a key that was dropped exchanges memberships")
		}
		if err := last.SetKeys(nil); err == nil {
			t.Error("no key at all was taken")
		}
	})
}

// TestExpel: a member that was expelled is off the list at once and is not taken
// back, whoever tells of it.
func TestExpel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, memnet.Link{Delay: 10 * time.Millisecond})
		nodes := []*node{c.start(1, 1, nil), c.start(2, 1, nil), c.start(3, 1, nil)}
		for _, n := range nodes[1:] {
			if err := n.Join(t.Context(), []identity.NodeID{nodes[0].id}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		nodes[0].Expel(nodes[2].id)
		nodes[0].mu.Lock()
		delete(nodes[0].records, nodes[2].id)
		nodes[0].mu.Unlock()
		listed := func() bool {
			for _, m := range nodes[0].Members() {
				if m.ID == nodes[2].id {
					return true
				}
			}
			return false
		}
		for range 60 {
			if listed() {
				t.Fatal("it is on the list")
			}
			time.Sleep(time.Second)
		}
		if err := nodes[0].Join(t.Context(), []identity.NodeID{nodes[1].id}); err != nil {
			t.Fatal(err)
		}
		_ = nodes[2].Join(t.Context(), []identity.NodeID{nodes[0].id})
		if listed() {
			t.Error("it came back by others, or by itself")
		}
		nodes[0].mu.Lock()
		if _, told := nodes[0].records[nodes[2].id]; told {
			t.Error("its record is told")
		}
		nodes[0].mu.Unlock()
		if state := func() gossip.State {
			for _, m := range nodes[0].Members() {
				if m.ID == nodes[1].id {
					return m.State
				}
			}
			return 0
		}(); state != gossip.Alive {
			t.Errorf("the other member is %v", state)
		}
	})
}
