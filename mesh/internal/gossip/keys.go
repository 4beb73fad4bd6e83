package gossip

import (
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// SetKeys replaces the keys while the gossip runs: packets and streams are
// sealed with the first and open with any. Give the others the new key,
// behind the one in use, before it comes first. The error is that no key was
// given.
func (g *Gossip) SetKeys(keys [][32]byte) error {
	if err := g.transport.seals.set(keys); err != nil {
		return fmt.Errorf("set gossip keys: %w", err)
	}
	return nil
}

// errExpelled is why a member is vetoed.
var errExpelled = errors.New("it was expelled")

// Expel takes a member off the list for good, alive or not: what others say of
// it is vetoed from now on.
func (g *Gossip) Expel(id identity.NodeID) {
	now := time.Now()
	g.mu.Lock()
	if g.expelled == nil {
		g.expelled = make(map[identity.NodeID]bool)
	}
	g.expelled[id] = true
	delete(g.members, id)
	g.living, g.near, g.sum = nil, nil, nil
	g.pending.change(id)
	g.changed = now
	g.mu.Unlock()
	g.signal()
}
