package registry

import "time"

// Watch returns a channel that receives after anything changed that Devices or
// Resolve may show; changes in quick succession are told once. The caller must
// call stop when it no longer reads; the channel is never closed.
func (r *Registry) Watch() (changes <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[ch] = struct{}{}
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, ch)
	}
}

func (r *Registry) signal() {
	for ch := range r.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Advance tells the registry that it is now. Watchers are told if since the
// last call a device has been away for longer than hold, so that its name may
// have gone to another. It returns when that will happen next, if it will; a
// change of the registry may make that earlier.
func (r *Registry) Advance(now time.Duration) (next time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := false
	for h := range r.away {
		switch ends := h.awaySince + r.cfg.Hold; {
		case ends > now:
			if !ok || ends < next {
				next, ok = ends, true
			}
		case ends > r.advanced:
			passed = true
		}
	}
	r.advanced = max(r.advanced, now)
	if passed {
		r.signal()
	}
	return next, ok
}
