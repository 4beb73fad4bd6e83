package bridge

import (
	"errors"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// grave is what is remembered of a session that ended, for a consumer that did
// not hear of it and asks for it again.
type grave struct {
	lost uint64 // bytes for the consumer that it never gets
	why  session.CloseError
}

// graveKey names a session. A consumer cannot speak of the sessions of others.
type graveKey struct {
	peer identity.NodeID
	id   session.ID
}

// graves are those of the last sessions of a node.
type graves struct {
	order []graveKey
	by    map[graveKey]grave
}

// maxGraves bounds them: more consumers than that coming back at once to one
// node learn "unknown".
const maxGraves = 64

func (p *Publisher) bury(peer identity.NodeID, id session.ID, it grave) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, key := &p.graves, graveKey{peer, id}
	if g.by == nil {
		g.by = map[graveKey]grave{}
	}
	if _, again := g.by[key]; !again {
		g.order = append(g.order, key)
	}
	g.by[key] = it
	if len(g.order) > maxGraves {
		delete(g.by, g.order[0])
		g.order = g.order[1:]
	}
}

// grave returns what is remembered of a session.
func (p *Publisher) grave(peer identity.NodeID, id session.ID) (grave, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, ok := p.graves.by[graveKey{peer, id}]
	return g, ok
}

// mayRise says why a session that is over cannot begin again; nil: it may, or it
// is not known. Who was kicked while it was out of reach would else take the
// device back, and an open that was overtaken by a later one of the same
// application would take it from that.
func (p *Publisher) mayRise(peer identity.NodeID, id session.ID) error {
	g, ok := p.grave(peer, id)
	if !ok || !errors.Is(&g.why, session.CodeKicked) {
		return nil
	}
	why := g.why
	return &why
}
