package quicnet

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

var (
	small = identity.NodeID{1}
	large = identity.NodeID{2}
)

func TestPairAdopt(t *testing.T) {
	type arrival struct {
		name string
		key  linkKey
	}
	old, fresh := instance{1}, instance{2}
	rows := []struct {
		name     string
		arrivals []arrival
		current  string
		left     []string // in order of adoption
	}{
		{"tie, smaller first", []arrival{{"s", linkKey{old, 1, 1, small}}, {"l", linkKey{old, 1, 1, large}}}, "s", []string{"s", "l"}},
		{"tie, larger first", []arrival{{"l", linkKey{old, 1, 1, large}}, {"s", linkKey{old, 1, 1, small}}}, "s", []string{"l", "s"}},
		{"higher round of the larger wins", []arrival{{"s", linkKey{old, 1, 1, small}}, {"l", linkKey{old, 2, 1, large}}}, "l", []string{"s", "l"}},
		{"lower round comes late", []arrival{{"l", linkKey{old, 2, 1, large}}, {"s", linkKey{old, 1, 1, small}}}, "l", []string{"l", "s"}},
		{"given up by the peer", []arrival{{"s", linkKey{old, 1, 1, small}}, {"l", linkKey{old, 2, 2, large}}}, "l", []string{"l"}},
		{"same dialer again", []arrival{{"a", linkKey{old, 1, 1, small}}, {"b", linkKey{old, 3, 1, small}}}, "b", []string{"b"}},
		{"restart with lower round", []arrival{{"a", linkKey{old, 9, 1, small}}, {"b", linkKey{fresh, 1, 1, large}}}, "b", []string{"b"}},
		{"restart ends draining too", []arrival{{"a", linkKey{old, 9, 1, small}}, {"b", linkKey{old, 9, 1, large}}, {"c", linkKey{fresh, 1, 1, small}}}, "c", []string{"c"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var p pair[string]
			gone := make(map[string]bool)
			for _, a := range row.arrivals {
				for _, l := range p.adopt(a.name, a.key) {
					gone[l] = true
				}
			}
			var left []string
			for _, e := range p.links {
				left = append(left, e.link)
			}
			if current, ok := p.current(); !ok || current != row.current || !slices.Equal(left, row.left) {
				t.Errorf("current %q of %v, want %q of %v", current, left, row.current, row.left)
			}
			for _, a := range row.arrivals {
				if gone[a.name] == slices.Contains(left, a.name) {
					t.Errorf("%q: lost %v, left %v", a.name, gone[a.name], left)
				}
			}
			p.remove(row.current)
			if current, ok := p.current(); ok != (len(left) > 1) || current == row.current {
				t.Errorf("after removal: %q, %v", current, ok)
			}
		})
	}
}

func TestPairNextGivesUpWhatCameAbout(t *testing.T) {
	var p pair[string]
	check := func(when string, wantRound, wantFloor uint64, wantOf instance) {
		t.Helper()
		if round, floor, of := p.next(); round != wantRound || floor != wantFloor || of != wantOf {
			t.Errorf("%s: %d-%d of %x, want %d-%d of %x", when, round, floor, of, wantRound, wantFloor, wantOf)
		}
	}
	check("first dial", 1, 1, instance{})
	check("after a failure", 2, 1, instance{})
	p.adopt("a", linkKey{instance: instance{1}, round: 7})
	p.remove("a")
	check("after a connection of round 7", 8, 8, instance{1})
	p.adopt("b", linkKey{instance: instance{2}, round: 1})
	p.remove("b")
	check("after round 1 of a fresh instance", 9, 2, instance{2})
}

// TestPairsAgree: both sides choose the same connection, in whatever order each
// sees a set of connections that came about at once.
func TestPairsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var keys []linkKey
		used := make(map[linkKey]bool)
		for range 2 + rng.IntN(maxLinks-2) {
			k := linkKey{round: uint64(1 + rng.IntN(3)), floor: 1, dialer: small}
			if rng.IntN(2) == 0 {
				k.dialer = large
			}
			if !used[k] { // a dialer never uses a round twice
				used[k] = true
				keys = append(keys, k)
			}
		}
		choose := func() linkKey {
			var p pair[int]
			for _, i := range rng.Perm(len(keys)) {
				p.adopt(i, keys[i])
			}
			i, _ := p.current()
			return keys[i]
		}
		if a, b := choose(), choose(); a != b {
			t.Fatalf("of %v one side uses %v, the other %v", keys, a, b)
		}
	}
}

func TestPairIsBounded(t *testing.T) {
	var p pair[int]
	closed := 0
	for i := range 100 {
		dialer := small
		if i%2 == 0 {
			dialer = large
		}
		closed += len(p.adopt(i, linkKey{round: uint64(100 - i), floor: 0, dialer: dialer}))
	}
	if len(p.links) > maxLinks || closed != 100-len(p.links) {
		t.Errorf("%d connections live, %d closed", len(p.links), closed)
	}
	if i, _ := p.current(); i != 0 {
		t.Errorf("connection %d is in use, want 0", i)
	}
}
