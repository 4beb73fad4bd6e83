package roster_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

func TestCompare(t *testing.T) {
	tie1, tie2 := plain(1, 5, 5), plain(2, 5, 5)
	a, b := sign(t, node(1), tie1), sign(t, node(1), tie2)
	ha, hb := a.Hash(), b.Hash()
	if bytes.Compare(ha[:], hb[:]) > 0 {
		a, b = b, a
	}
	for _, row := range []struct {
		name         string
		older, newer roster.Signed
	}{
		{"epoch", sign(t, node(1), plain(1, 1, 9)), sign(t, node(1), plain(1, 2, 0))},
		{"sequence", sign(t, node(1), plain(1, 2, 3)), sign(t, node(1), plain(1, 2, 4))},
		{"large numbers", sign(t, node(1), plain(1, 2, 255)), sign(t, node(1), plain(1, 2, 256))},
		{"larger hash", a, b},
		{"none", roster.Signed{}, a},
	} {
		t.Run(row.name, func(t *testing.T) {
			if roster.Compare(row.older, row.newer) >= 0 || roster.Compare(row.newer, row.older) <= 0 {
				t.Error("wrong order")
			}
			if roster.Compare(row.older, row.older) != 0 {
				t.Error("not equal to itself")
			}
		})
	}
}

func TestMergeOutcomes(t *testing.T) {
	self := sign(t, node(1), plain(1, 5, 5))
	first, newer := sign(t, node(2), plain(1, 1, 1)), sign(t, node(2), plain(1, 1, 2))
	r := roster.New(self)
	for _, row := range []struct {
		name string
		give roster.Signed
		want roster.Outcome
	}{
		{"first of a node", first, roster.Added},
		{"again", first, roster.Same},
		{"newer", newer, roster.Newer},
		{"older", first, roster.Older},
		{"none", roster.Signed{}, roster.Older},
		{"our own", self, roster.Same},
		{"our own of before", sign(t, node(1), plain(1, 5, 4)), roster.Older},
		{"an earlier life behind us", sign(t, node(1), plain(9, 5, 4)), roster.Older},
		{"an earlier life level with us", sign(t, node(1), plain(9, 5, 5)), roster.Own},
		{"an earlier life ahead of us", sign(t, node(1), plain(9, 6, 0)), roster.Own},
	} {
		if got := r.Merge(row.give); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	if got, _ := r.Get(node(1).ID()); roster.Compare(got, self) != 0 {
		t.Error("our own record was replaced")
	}
	if got, _ := r.Get(node(2).ID()); roster.Compare(got, newer) != 0 {
		t.Error("not the newest record is kept")
	}
	if len(r.All()) != 2 {
		t.Errorf("%d records, want 2", len(r.All()))
	}
	if !r.Remove(node(2).ID()) || r.Remove(node(2).ID()) || r.Remove(node(1).ID()) {
		t.Error("Remove reports wrongly")
	}
	if got := r.Merge(first); got != roster.Added {
		t.Errorf("after removal: %s, want added", got)
	}
}

func TestMergeConverges(t *testing.T) {
	var pool []roster.Signed
	for n := uint32(2); n < 5; n++ {
		for epoch := range uint64(2) {
			for sequence := range uint64(2) {
				pool = append(pool, sign(t, node(n), plain(1, epoch, sequence)), sign(t, node(n), plain(2, epoch, sequence)))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOf(rapid.SampledFrom(pool)).Draw(t, "records")
		shuffled := rapid.Permutation(some).Draw(t, "order")
		a, b := roster.New(roster.Signed{}), roster.New(roster.Signed{})
		for _, s := range some {
			a.Merge(s)
		}
		for _, s := range append(shuffled, some...) {
			b.Merge(s)
		}
		if !bytes.Equal(a.Marshal(), b.Marshal()) {
			t.Fatal("two orders of arrival gave two rosters")
		}
	})
}

func TestSetSelf(t *testing.T) {
	r := roster.New(roster.Signed{})
	if len(r.All()) != 0 || !r.Self().IsZero() {
		t.Error("an empty roster has records")
	}
	own := sign(t, node(1), plain(1, 1, 1))
	r.Merge(own)
	r.SetSelf(own)
	if all := r.All(); len(all) != 1 || r.Self().IsZero() {
		t.Errorf("%d records, want only our own", len(all))
	}
	if got, ok := r.Get(node(1).ID()); !ok || got.Hash() != own.Hash() {
		t.Error("our own record is not found")
	}
	if _, ok := r.Get(identity.NodeID{}); ok {
		t.Error("a record of nobody")
	}
}

func TestAllIsSorted(t *testing.T) {
	r := roster.New(sign(t, node(1), plain(1, 1, 1)))
	for n := uint32(2); n < 40; n++ {
		r.Merge(sign(t, node(n), plain(1, 1, 1)))
	}
	if !slices.IsSortedFunc(r.All(), func(a, b roster.Signed) int { return a.ID().Compare(b.ID()) }) {
		t.Error("not sorted by NodeID")
	}
}
