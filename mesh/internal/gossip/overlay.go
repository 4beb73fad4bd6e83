package gossip

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Messages and farewells are flooded along the edges of a graph over the members
// that are alive, the overlay: each member passes on what is new to it to its
// neighbours, at once. memberlist would tell four random members every 200 ms,
// 24 in all in a cluster of 1,000: slower, more of it, and nearly each of them
// a member with whom there is no WireGuard session yet. Neighbours stay the
// same and are in use anyway.
//
// The overlay is the union of rings. A ring orders the members by a part of
// their NodeIDs, which are hashes, so the rings are random and have nothing to
// do with each other; a member's neighbours are the next and the last in each.
// Such a graph of degree 6 has about log5(n) hops between any two members (1,000:
// 5), and all members with the same view compute the same one.
const (
	rings = 3

	// floodPause collects what is to be flooded, so that a newer message of a
	// name takes the place of one just before.
	floodPause = 2 * time.Millisecond

	// floodGap lies between floods of one member where much happens at once, so
	// that a packet takes several messages. It is paid by each hop, five in a
	// cluster of 1,000.
	floodGap = 25 * time.Millisecond

	// sparse is the size of a cluster below which a member has so few
	// neighbours that a lost packet matters: there memberlist repeats messages.
	sparse = 2*rings + 2

	// repeats times the decimal digits of the cluster's size is how often
	// memberlist sends a message in a sparse cluster, besides the flood.
	repeats = 4
)

// neighbours returns self's neighbours among the members, ordered by ring.
func neighbours(self identity.NodeID, members []identity.NodeID) []identity.NodeID {
	var all []identity.NodeID
	for ring := range rings {
		place := func(id identity.NodeID) uint32 { return binary.BigEndian.Uint32(id[4*ring:]) }
		var next, last identity.NodeID
		own := place(self)
		for _, id := range members {
			if id == self {
				continue
			}
			// Distances wrap around; equal places are told apart by the NodeID.
			at := place(id)
			if next.IsZero() || at-own < place(next)-own || at == place(next) && id.Compare(next) < 0 {
				next = id
			}
			if last.IsZero() || own-at < own-place(last) || at == place(last) && id.Compare(last) < 0 {
				last = id
			}
		}
		for _, id := range []identity.NodeID{next, last} {
			if !id.IsZero() && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all
}

// lives returns the members that are alive, this node included; the slice is
// not to be changed. Called with mu held.
func (g *Gossip) lives() []identity.NodeID {
	if g.living == nil {
		for id, m := range g.members {
			if m.state == Alive {
				g.living = append(g.living, id)
			}
		}
	}
	return g.living
}

// aliveNow is how many members are alive. Called with mu held.
func (g *Gossip) aliveNow() int { return len(g.lives()) }

// neighbourhood returns this node's neighbours now; the slice is not to be
// changed. Called with mu held.
func (g *Gossip) neighbourhood() []identity.NodeID {
	if g.near == nil {
		g.near = neighbours(g.cfg.Self, g.lives())
	}
	return g.near
}

// flooded is a message on its way to the neighbours, as memberlist frames it.
type flooded struct {
	key     string // a newer one of the same key takes its place; "": none does
	message []byte
}

// spread passes a frame on; a newer one of the same key takes its place.
func (g *Gossip) spread(key string, frame []byte) {
	g.mu.Lock()
	g.toFlood(key, append([]byte{typeUser}, frame...))
	few := g.aliveNow() < sparse
	g.mu.Unlock()
	g.wakeFlood()
	if few {
		g.queue.QueueBroadcast(&broadcast{name: key, frame: frame})
	}
}

// toFlood is called with mu held, and wakeFlood after it without.
func (g *Gossip) toFlood(key string, message []byte) {
	if key != "" {
		if i := slices.IndexFunc(g.flooding, func(f flooded) bool { return f.key == key }); i >= 0 {
			g.flooding[i].message = message
			return
		}
	}
	g.flooding = append(g.flooding, flooded{key, message})
}

func (g *Gossip) wakeFlood() {
	select {
	case g.floods <- struct{}{}:
	default:
	}
}

// flood sends what is to be spread to the neighbours until ctx ends.
func (g *Gossip) flood(ctx context.Context) {
	pause := time.NewTimer(floodPause)
	defer pause.Stop()
	var last time.Time
	for {
		select {
		case <-g.floods:
		case <-ctx.Done():
			return
		}
		pause.Reset(max(floodPause, floodGap-time.Since(last)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		last = time.Now()
		g.floodNow(last)
	}
}

// floodNow sends what waits to be spread.
func (g *Gossip) floodNow(now time.Time) {
	for to, messages := range g.takeFlooding(now) {
		for _, packet := range packets(messages) {
			g.transport.write(to, packet)
		}
	}
}

// takeFlooding returns what is to be told to each neighbour: what it has not
// told this node itself.
func (g *Gossip) takeFlooding(now time.Time) map[identity.NodeID][][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make(map[identity.NodeID][][]byte)
	for _, f := range g.flooding {
		r := g.rumours.get(now, f.message)
		r.told = true
		for _, id := range g.neighbourhood() {
			if !slices.Contains(r.tellers, id) {
				all[id] = append(all[id], f.message)
			}
		}
		r.tellers = nil
	}
	g.flooding = nil
	return all
}
