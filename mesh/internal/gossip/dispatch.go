package gossip

import (
	"context"
	"time"
)

// signal wakes the dispatcher.
func (g *Gossip) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// dispatch calls the callbacks until ctx ends.
func (g *Gossip) dispatch(ctx context.Context) {
	for {
		select {
		case <-g.wake:
		case <-ctx.Done():
			return
		}
		g.mu.Lock()
		p := g.pending
		g.pending = pending{}
		changed := make([]Member, 0, len(p.changed))
		for id := range p.changed {
			one := Member{ID: id}
			if m, ok := g.members[id]; ok {
				one.State, one.Meta = m.state, m.meta
			}
			changed = append(changed, one)
		}
		g.mu.Unlock()
		if p.update {
			g.update(ctx)
		}
		for _, r := range p.records {
			g.cfg.OnRecord(r.ID, r.Meta)
		}
		for _, m := range p.messages {
			g.cfg.OnMessage(m)
		}
		if len(changed) > 0 {
			g.cfg.OnChange(changed)
		}
		if !p.differs.IsZero() {
			g.cfg.OnDiffer(p.differs)
		}
	}
}

// update makes memberlist ask for our record and broadcast it.
func (g *Gossip) update(ctx context.Context) {
	list, release, err := g.use(ctx)
	if err != nil {
		return // it ends; nobody is left to tell
	}
	defer release()
	// It has queued the broadcast by the time that it waits for it to be sent,
	// which is of no interest here: the error is always that time-out.
	_ = list.UpdateNode(time.Nanosecond)
}
