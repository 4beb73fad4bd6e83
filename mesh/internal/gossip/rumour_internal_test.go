package gossip

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

func messages(sizes ...int) [][]byte {
	var all [][]byte
	for i, size := range sizes {
		all = append(all, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	return all
}

// TestPackets: messages share packets as long as they fit, in their order.
func TestPackets(t *testing.T) {
	rows := map[string]struct {
		messages [][]byte
		packets  int
	}{
		"none":         {nil, 0},
		"one":          {messages(100), 1},
		"two fit":      {messages(500, packetBudget-500-2-2*2), 1},
		"two too long": {messages(500, packetBudget-500-2-2*2+1), 2},
		"one fills it": {messages(packetBudget, 10, 10), 2},
		"many small":   {messages(slices.Repeat([]int{1}, 300)...), 2},
	}
	for name, row := range rows {
		all := packets(row.messages)
		var again [][]byte
		for _, p := range all {
			if len(p) > packetBudget {
				t.Errorf("%s: a packet of %d bytes", name, len(p))
			}
			again = append(again, messagesIn(p)...)
		}
		if len(all) != row.packets || !slices.EqualFunc(again, row.messages, bytes.Equal) {
			t.Errorf("%s: %d packets with %d messages, want %d with %d", name, len(all), len(again), row.packets, len(row.messages))
		}
	}
}

// FuzzMessagesIn reads anything; what it finds can be put into packets again.
func FuzzMessagesIn(f *testing.F) {
	f.Add(packets(messages(3, 4))[0])
	f.Add([]byte{typeChecked, 0, 0, 0, 0, typeAlive, 1})
	f.Add([]byte{typeCompound, 2, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxPacket {
			return
		}
		all := messagesIn(b)
		var again [][]byte
		for _, p := range packets(all) {
			// A single message that looks like a packet of several is one.
			if len(all) == 1 || p[0] != typeCompound && p[0] != typeChecked {
				again = append(again, p)
			} else {
				again = append(again, messagesIn(p)...)
			}
		}
		if len(all) < maxCompound && !slices.EqualFunc(again, all, bytes.Equal) {
			t.Errorf("%x is read as %x, and that as %x", b, all, again)
		}
	})
}

// TestRumoursAreRememberedForAWhile, and no longer, and not too many.
func TestRumoursAreRememberedForAWhile(t *testing.T) {
	var r rumours
	now := time.Now()
	r.get(now, []byte("a")).told = true
	if !r.get(now.Add(rumourFor-1), []byte("a")).told || !r.get(now.Add(2*rumourFor-2), []byte("a")).told {
		t.Error("a rumour was forgotten while it was told")
	}
	if r.get(now.Add(10*rumourFor), []byte("a")).told {
		t.Error("a rumour was remembered too long")
	}
	for i := range 3 * rumourLimit {
		r.get(now.Add(10*rumourFor), []byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if n := len(r.young) + len(r.old); n > 2*rumourLimit {
		t.Errorf("%d rumours are remembered", n)
	}
	r.forget(now.Add(20 * rumourFor))
	if r.young != nil || r.old != nil {
		t.Error("rumours are kept when nothing is told any more")
	}
}

// TestDivert: of a packet for an alive member of a large cluster the rumours go
// to the neighbours, once, and the rest where it should.
func TestDivert(t *testing.T) {
	alive, ping := []byte{typeAlive, 1}, []byte{0, 2}
	both := packets([][]byte{ping, alive})[0]
	id := func(i int) identity.NodeID { return identity.NodeID{byte(i), 4: byte(3 * i), 8: byte(7 * i)} }
	for name, row := range map[string]struct {
		members int
		to      State
		want    []byte
	}{
		"large cluster":  {20, Alive, ping},
		"dead":           {20, Dead, both},
		"sparse cluster": {sparse - 2, Alive, both},
	} {
		g := &Gossip{cfg: Config{Self: id(0)}, members: make(map[identity.NodeID]*member), floods: make(chan struct{}, 1)}
		for i := range row.members {
			g.members[id(i)] = &member{state: Alive}
		}
		other := id(row.members)
		g.members[other] = &member{state: row.to}
		if row.to == Alive {
			other = id(1)
		}
		near := g.neighbourhood()
		g.heardFrom(near[0], alive)
		for range 2 {
			if rest := g.divert(other, both); !bytes.Equal(rest, row.want) {
				t.Errorf("%s: %x is left, want %x", name, rest, row.want)
			}
		}
		flood := g.takeFlooding(time.Now())
		if len(flood) != len(near)-1 || flood[near[0]] != nil {
			t.Errorf("%s: told to %d of %d neighbours, one of which has told it", name, len(flood), len(near))
		}
		for _, m := range flood {
			if len(m) != 1 || !bytes.Equal(m[0], alive) {
				t.Errorf("%s: a neighbour is told %x", name, m)
			}
		}
	}
}
