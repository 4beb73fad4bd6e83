package gossip

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// memberlist tells its rumours (who is alive, suspect or dead) to random
// members, in a cluster of 1,000 each rumour 24 times from each member, 12 kB a
// member for a record that has changed, and mostly to members with whom there
// is no WireGuard session. Here they go where messages go, along the overlay,
// once to each neighbour that has not told them itself: 1 to 3 kB.
//
// memberlist still decides what is a rumour: it has accepted it (a veto stops
// it here) before it tells it on, at its next round of gossip. In a sparse
// cluster its own repeats leave as well, because there a lost packet matters.

// The message types of memberlist's that matter here (its net.go); they are
// part of its protocol.
const (
	typeSuspect  = 3
	typeAlive    = 4
	typeDead     = 5
	typeCompound = 7
	typeUser     = 8
	typeChecked  = 12 // CRC (4) ‖ message

	checkedHeader = 1 + 4
	maxCompound   = 255 // messages
)

// messagesIn returns the messages in a packet, which alias it; nil if it is
// malformed.
func messagesIn(packet []byte) [][]byte {
	if len(packet) > checkedHeader && packet[0] == typeChecked {
		packet = packet[checkedHeader:] // the seal is a better checksum
	}
	if len(packet) == 0 {
		return nil
	}
	if packet[0] != typeCompound {
		return [][]byte{packet}
	}
	if len(packet) < 2 {
		return nil
	}
	lengths := packet[2:]
	n := int(packet[1])
	if n == 0 || len(lengths) < 2*n {
		return nil
	}
	rest := lengths[2*n:]
	all := make([][]byte, 0, n)
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size == 0 || size > len(rest) {
			return nil
		}
		all = append(all, rest[:size:size])
		rest = rest[size:]
	}
	return all
}

// packets puts messages into as few packets of at most packetBudget as their
// order allows.
func packets(messages [][]byte) [][]byte {
	var all [][]byte
	for len(messages) > 0 {
		n, size := 0, 2
		for n < len(messages) && n < maxCompound && (n == 0 || size+2+len(messages[n]) <= packetBudget) {
			size += 2 + len(messages[n])
			n++
		}
		if n == 1 {
			all = append(all, messages[0])
		} else {
			packet := append(make([]byte, 0, size), typeCompound, byte(n))
			for _, m := range messages[:n] {
				packet = binary.BigEndian.AppendUint16(packet, uint16(len(m)))
			}
			for _, m := range messages[:n] {
				packet = append(packet, m...)
			}
			all = append(all, packet)
		}
		messages = messages[n:]
	}
	return all
}

func isRumour(message []byte) bool {
	return message[0] == typeAlive || message[0] == typeSuspect || message[0] == typeDead
}

// rumours remembers, of messages on their way through the overlay, who has told
// them and whether they were passed on, for at least rumourFor. It is Gossip's,
// guarded by mu; its zero value is ready.
type rumours struct {
	young, old map[uint64]*rumour
	since      time.Time // of young, monotonic
}

type rumour struct {
	tellers []identity.NodeID // at most tellersLimit
	queued  bool              // is passed on, or was
	told    bool              // was passed on
}

const (
	rumourFor    = time.Minute
	rumourLimit  = 8192
	tellersLimit = 2 * rings
)

// hashSeed keys the hashes of messages: nobody outside can make two collide.
var hashSeed = maphash.MakeSeed()

func (r *rumours) get(now time.Time, message []byte) *rumour {
	if age := now.Sub(r.since); age >= rumourFor || len(r.young) >= rumourLimit {
		r.old, r.young, r.since = r.young, nil, now
		if age >= 2*rumourFor {
			r.old = nil
		}
	}
	key := maphash.Bytes(hashSeed, message)
	if r.young == nil {
		r.young = make(map[uint64]*rumour)
	}
	if one := r.young[key]; one != nil {
		return one
	}
	one := r.old[key]
	if one == nil {
		one = &rumour{}
	}
	r.young[key] = one
	return one
}

// forget drops what is remembered for too long.
func (r *rumours) forget(now time.Time) {
	if now.Sub(r.since) >= 2*rumourFor {
		r.young, r.old = nil, nil
	}
}

// heardFrom notes who has told the messages of a packet.
func (g *Gossip) heardFrom(from identity.NodeID, packet []byte) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range messagesIn(packet) {
		if !isRumour(m) && !(m[0] == typeUser && len(m) > 1 && (m[1] == frameMessage || m[1] == frameFarewell)) {
			continue
		}
		if r := g.rumours.get(now, m); !r.told && len(r.tellers) < tellersLimit && !slices.Contains(r.tellers, from) {
			r.tellers = append(r.tellers, from)
		}
	}
}

// divert takes the rumours out of what memberlist sends to a member, passes on
// those that are new along the overlay, and returns what is left to be sent.
func (g *Gossip) divert(to identity.NodeID, packet []byte) (rest []byte) {
	messages := messagesIn(packet)
	if !slices.ContainsFunc(messages, isRumour) {
		return packet
	}
	now := time.Now()
	var fresh, others [][]byte
	g.mu.Lock()
	for _, m := range messages {
		if !isRumour(m) {
			others = append(others, m)
			continue
		}
		if r := g.rumours.get(now, m); !r.queued {
			r.queued = true
			fresh = append(fresh, slices.Clone(m))
		}
	}
	// Who is taken for dead is nobody's neighbour, and must hear of it.
	m, known := g.members[to]
	keep := g.aliveNow() < sparse || !known || m.state != Alive
	for _, m := range fresh {
		g.toFlood("", m)
	}
	g.mu.Unlock()
	if len(fresh) > 0 {
		g.wakeFlood()
	}
	switch {
	case keep:
		return packet
	case len(others) == 0:
		return nil
	}
	return packets(others)[0] // they came in one
}
