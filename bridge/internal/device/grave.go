package device

import (
	"errors"
	"sync"

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

// Graves are those of the last sessions of a node, on all its devices. The zero
// value has none. It is safe for concurrent use.
type Graves struct {
	mu    sync.Mutex
	order []graveKey
	by    map[graveKey]grave
}

// maxGraves bounds them: more consumers than that coming back at once to one
// node learn "unknown".
const maxGraves = 64

func (g *Graves) bury(peer identity.NodeID, id session.ID, it grave) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := graveKey{peer, id}
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

// of returns what is remembered of a session.
func (g *Graves) of(peer identity.NodeID, id session.ID) (grave, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	it, ok := g.by[graveKey{peer, id}]
	return it, ok
}

// mayRise says why a session that is over cannot begin again; nil: it may, or it
// is not known. Who was kicked while it was out of reach would else take the
// device back, and an open that was overtaken by a later one of the same
// application would take it from that.
func (g *Graves) mayRise(peer identity.NodeID, id session.ID) error {
	it, ok := g.of(peer, id)
	if !ok || !errors.Is(&it.why, session.CodeKicked) {
		return nil
	}
	return &it.why
}
