package join

import "container/list"

// recent keeps the values of the keys used last, up to limit. The zero value
// is not usable.
type recent[K comparable, V any] struct {
	limit int
	order *list.List // of recentEntry, the last used in front
	items map[K]*list.Element
}

type recentEntry[K comparable, V any] struct {
	key   K
	value *V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, order: list.New(), items: make(map[K]*list.Element)}
}

// use returns the value of key and marks it as used; known is false if the
// value is new. Beyond the limit the key unused for longest is forgotten.
func (r *recent[K, V]) use(key K) (value *V, known bool) {
	if e, ok := r.items[key]; ok {
		r.order.MoveToFront(e)
		return e.Value.(recentEntry[K, V]).value, true
	}
	if r.order.Len() >= r.limit {
		oldest := r.order.Back()
		delete(r.items, oldest.Value.(recentEntry[K, V]).key)
		r.order.Remove(oldest)
	}
	value = new(V)
	r.items[key] = r.order.PushFront(recentEntry[K, V]{key, value})
	return value, false
}

// each calls f for all, the last used first.
func (r *recent[K, V]) each(f func(K, *V)) {
	for e := r.order.Front(); e != nil; e = e.Next() {
		entry := e.Value.(recentEntry[K, V])
		f(entry.key, entry.value)
	}
}

// has reports whether key is kept, and if so marks it as used.
func (r *recent[K, V]) has(key K) bool {
	e, ok := r.items[key]
	if ok {
		r.order.MoveToFront(e)
	}
	return ok
}
