package tunnel

import (
	"context"
	"encoding/binary"
	"time"
)

// repeatLoop sends held initiations again when they are due. It returns when
// ctx ends (nil) or reception has.
func (t *Tunnel) repeatLoop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(t.sendDue())
		select {
		case <-ctx.Done():
			return nil
		case err := <-t.dead:
			return err
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// sendDue sends what is due and returns the time until the next is.
func (t *Tunnel) sendDue() time.Duration {
	next := t.now() + time.Hour
	for _, l := range t.table.Load().byID {
		if l.route.Load() == nil {
			continue // SetRoute sends it and wakes us
		}
		l.mu.Lock()
		repeat := l.init.sent > 0
		out := l.init.take(t.now(), false)
		due := l.init.due
		l.mu.Unlock()
		if out != nil {
			if repeat {
				t.stats.Repeats.Add(1)
			}
			t.bind.sendOn(l, out)
		}
		next = min(next, due)
	}
	return max(0, next-t.now())
}

// wakeUp makes the repeat loop look again; it never waits.
func (t *Tunnel) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// settle forgets the held initiation whose sender index a response names.
func (t *Tunnel) settle(index uint32) {
	for _, l := range t.table.Load().byID {
		l.mu.Lock()
		if m := l.init.message; m != nil && binary.LittleEndian.Uint32(m[4:8]) == index {
			l.init.settle()
		}
		l.mu.Unlock()
	}
}
