package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// SetKeys replaces the keys while the gossip runs: packets and streams are
// encrypted with the first and open with any. Give the others the new key,
// behind the one in use, before it comes first. The error is that no key was
// given.
func (g *Gossip) SetKeys(keys [][32]byte) error {
	if len(keys) == 0 {
		return fmt.Errorf("set gossip keys: none given")
	}
	g.keysMu.Lock()
	defer g.keysMu.Unlock()
	for _, key := range keys {
		if err := g.keys.AddKey(key[:]); err != nil {
			return fmt.Errorf("set gossip keys: %w", err)
		}
	}
	// UseKey moves a key to the front. So those to be removed end up last, and
	// only there RemoveKey leaves the array alone from which memberlist's
	// goroutines are reading (Keyring.GetKeys returns it, not a copy).
	for _, key := range slices.Backward(keys) {
		if err := g.keys.UseKey(key[:]); err != nil {
			return fmt.Errorf("set gossip keys: %w", err)
		}
	}
	all := g.keys.GetKeys()
	for _, key := range slices.Backward(all) {
		if slices.ContainsFunc(keys, func(k [32]byte) bool { return bytes.Equal(k[:], key) }) {
			break
		}
		if err := g.keys.RemoveKey(key); err != nil {
			return fmt.Errorf("set gossip keys: %w", err)
		}
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
	g.near = nil
	g.pending.changed = true
	g.changed = now
	g.mu.Unlock()
	g.signal()
}
