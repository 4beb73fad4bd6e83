package mesh

import "sync"

// watchers tells any number of watchers that something has changed.
type watchers struct {
	mu   sync.Mutex
	next int
	all  map[int]chan struct{}
}

func (w *watchers) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.all {
		poke(c)
	}
}

// Membership is another number whenever Members has changed in other things
// than paths, round trips and clocks, which change far more often: whoever
// follows only who is a member, and how it is, need not look at all of them.
func (m *Mesh) Membership() uint64 { return m.membership.Load() }

// Watch returns a channel that gets a value when members, their state or their
// paths have changed since the last value was taken, and what ends it. Changes
// that come together make one value.
func (m *Mesh) Watch() (changes <-chan struct{}, stop func()) {
	w := &m.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[int]chan struct{})
	}
	key := w.next
	w.next++
	c := make(chan struct{}, 1)
	w.all[key] = c
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, key)
	}
}
