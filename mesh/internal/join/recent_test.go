package join

import (
	"slices"
	"testing"
)

// TestRecent: a key that keeps coming, such as that of a recorded first
// message, stays known beside any number of others.
func TestRecent(t *testing.T) {
	const limit = 8
	r := newRecent[int, int](limit)
	if r.has(1) {
		t.Error("knows a key it never saw")
	}
	v, known := r.use(-1)
	*v = 7
	if known {
		t.Error("the first use is known")
	}
	for i := range 100 {
		r.use(i)
		if i%(limit-1) == 0 && !r.has(-1) {
			t.Fatalf("forgot a key in use after %d others", i)
		}
		if len(r.items) > limit || r.order.Len() != len(r.items) {
			t.Fatalf("%d items, %d in order", len(r.items), r.order.Len())
		}
	}
	if v, known := r.use(-1); !known || *v != 7 {
		t.Error("lost a value")
	}
	if r.has(50) {
		t.Error("keeps a key that is long unused")
	}
	var order []int
	r.each(func(k int, _ *int) { order = append(order, k) })
	if want := []int{-1, 99, 98, 97, 96, 95, 94, 93}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}
