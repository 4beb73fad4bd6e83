package agent

import "sync"

// changes tells watchers that something may have changed. Its zero value works.
type changes struct {
	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
}

// tell wakes all watchers.
func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for watcher := range c.watchers {
		select {
		case watcher <- struct{}{}:
		default: // it has been woken and has not looked yet
		}
	}
}

// watch returns a channel that holds a signal after a change, and a function
// that ends it.
func (c *changes) watch() (signals <-chan struct{}, stop func()) {
	watcher := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = map[chan struct{}]struct{}{}
	}
	c.watchers[watcher] = struct{}{}
	return watcher, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, watcher)
	}
}
