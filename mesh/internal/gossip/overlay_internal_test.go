package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

// TestOverlay looks at the graphs of clusters of several sizes: everybody
// reaches everybody, in few hops, and edges go both ways.
func TestOverlay(t *testing.T) {
	for _, row := range []struct{ members, hops int }{{1, 0}, {2, 1}, {3, 1}, {7, 2}, {30, 4}, {100, 5}, {1000, 7}} {
		var all []identity.NodeID
		for i := range row.members {
			sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
			all = append(all, identity.NodeID(sum[:identity.NodeIDLen]))
		}
		edges := make(map[identity.NodeID][]identity.NodeID)
		for _, id := range all {
			edges[id] = neighbours(id, all)
			if n := len(edges[id]); n > 2*rings || n < min(2, row.members-1) {
				t.Errorf("%d members: %d neighbours", row.members, n)
			}
		}
		for id, near := range edges {
			for _, other := range near {
				if !slices.Contains(edges[other], id) {
					t.Fatalf("%d members: an edge goes one way", row.members)
				}
			}
		}
		hops, reached := 0, map[identity.NodeID]bool{all[0]: true}
		for front := []identity.NodeID{all[0]}; ; hops++ {
			var next []identity.NodeID
			for _, id := range front {
				for _, other := range edges[id] {
					if !reached[other] {
						reached[other] = true
						next = append(next, other)
					}
				}
			}
			if len(next) == 0 {
				break
			}
			front = next
		}
		if len(reached) != row.members || hops > row.hops {
			t.Errorf("%d members: %d reached in %d hops, want all in %d", row.members, len(reached), hops, row.hops)
		}
	}
}
