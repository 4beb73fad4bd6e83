package gossip_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

func TestClusterForms(t *testing.T) {
	for _, row := range []struct {
		count int
		link  memnet.Link
	}{{3, lan}, {3, memnet.Link{Delay: 40 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.1}}, {8, lan}, {20, lan}} {
		t.Run(fmt.Sprintf("%d nodes, loss %v", row.count, row.link.Loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, row.count, row.link)
				for _, n := range c.nodes {
					n.mu.Lock()
					if len(n.records) != row.count || n.changes == 0 {
						t.Errorf("%d records were told, %d changes; want %d records", len(n.records), n.changes, row.count)
					}
					n.mu.Unlock()
					members := n.Members()
					if len(members) != row.count || !slices.IsSortedFunc(members, func(a, b gossip.Member) int { return a.ID.Compare(b.ID) }) {
						t.Errorf("members are not %d in order", row.count)
					}
				}
				if s := c.packets.Stats(); s.Largest > gossip.MaxPacket {
					t.Errorf("largest packet has %d bytes", s.Largest)
				}
			})
		})
	}
}

func TestCrashIsDeadAndLeaveIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 5, lan)
		crashed, left, rest := c.nodes[1], c.nodes[3], []*node{c.nodes[0], c.nodes[2], c.nodes[4]}
		if err := left.Leave(5 * time.Second); err != nil {
			t.Errorf("Leave: %v", err)
		}
		if s := left.state(left.id); s != gossip.Left {
			t.Errorf("the leaver calls itself %v", s)
		}
		left.stop()
		took := within(t, 3*time.Second, "left", func() bool {
			return !slices.ContainsFunc(rest, func(n *node) bool { return n.state(left.id) != gossip.Left })
		})
		t.Logf("left after %v", took)
		crashed.stop()
		took = within(t, time.Minute, "dead", func() bool {
			return !slices.ContainsFunc(rest, func(n *node) bool { return n.state(crashed.id) != gossip.Dead })
		})
		t.Logf("dead after %v", took)

		// One who joins later is told the same by those who saw it.
		late := c.start(9, 1, nil)
		if err := late.Join(t.Context(), []identity.NodeID{rest[0].id}); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "late joiner is known", allAlive(append(rest, late)))
		if s := late.state(left.id); s == gossip.Alive || s == gossip.Dead {
			t.Errorf("late joiner calls the leaver %v", s)
		}

		rest[0].Forget(left.id)
		rest[0].Forget(rest[1].id) // is alive: stays
		if rest[0].state(left.id) != 0 || rest[0].state(rest[1].id) != gossip.Alive {
			t.Error("Forget took the wrong member")
		}
	})
}

// TestMissedFarewell: who was cut off while a member left learns it at Join.
func TestMissedFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 4, lan)
		alone, leaver, rest := c.nodes[0], c.nodes[1], c.nodes[2:]
		c.cut(c.nodes[:1], c.nodes[1:], true)
		if err := leaver.Leave(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		leaver.stop()
		time.Sleep(time.Second)
		c.cut([]*node{alone}, rest, false)
		if err := alone.Join(t.Context(), []identity.NodeID{rest[0].id}); err != nil {
			t.Fatal(err)
		}
		within(t, time.Second, "left", func() bool { return alone.state(leaver.id) == gossip.Left })
	})
}

func TestMetaUpdateReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 8, lan)
		n := c.nodes[2]
		for version := byte(2); version < 5; version++ {
			want := record(n.identity, version)
			n.setMeta(want)
			took := within(t, 20*time.Second, "new record", func() bool {
				return !slices.ContainsFunc(c.nodes, func(o *node) bool { return o.metaOf(n.id) != string(want) })
			})
			t.Logf("after %v", took)
		}
	})
}

// TestMetaUpdateIsToldOnce: a new record costs each member a few packets, in a
// cluster of any size: what memberlist repeats to random members stays here.
func TestMetaUpdateIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 30, lan)
		time.Sleep(time.Minute) // the start is over
		during := func(what func()) float64 {
			before := c.packets.Stats().Sent
			what()
			time.Sleep(10 * time.Second)
			return float64(c.packets.Stats().Sent-before) / 30
		}
		quiet := during(func() {})
		want := record(c.nodes[3].identity, 2)
		told := during(func() {
			c.nodes[3].setMeta(want)
			within(t, 2*time.Second, "new record", func() bool {
				return !slices.ContainsFunc(c.nodes, func(o *node) bool { return o.metaOf(c.nodes[3].id) != string(want) })
			})
		})
		// Each side of an edge of the overlay, 6 a member, tells the other at
		// most; digests come more often for a while.
		if more := told - quiet; more < 1 || more > 6+4 {
			t.Errorf("%.1f packets a member, of which %.1f are of no change", told, quiet)
		}
	})
}

func TestBroadcastReachesAll(t *testing.T) {
	for _, row := range []struct {
		name string
		link memnet.Link
	}{{"lan", lan}, {"lossy", memnet.Link{Delay: 20 * time.Millisecond, Loss: 0.1}}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 20, row.link)
				big := string(make([]byte, gossip.MaxMessage))
				if err := c.nodes[4].Broadcast("a name as long as names may be", []byte(big)); err != nil {
					t.Fatal(err)
				}
				for i := range 5 {
					if err := c.nodes[7].Broadcast("small", fmt.Appendf(nil, "version %d", i)); err != nil {
						t.Fatal(err)
					}
				}
				took := within(t, 5*time.Second, "messages", func() bool {
					for i, n := range c.nodes {
						if i != 4 && n.got(big) == 0 || i != 7 && n.got("version 4") == 0 {
							return false
						}
					}
					return true
				})
				t.Logf("after %v", took)
				time.Sleep(20 * time.Second) // the rumour has ended
				for _, n := range c.nodes {
					if n.got(big) > 1 || n.got("version 4") > 1 {
						t.Error("a message was told twice")
					}
					if n.got("version 0") != 0 {
						t.Error("a message was sent that had been replaced before")
					}
				}
				if c.nodes[4].got(big) != 0 {
					t.Error("a message was told to its sender")
				}
				if s := c.packets.Stats(); s.Largest > gossip.MaxPacket {
					t.Errorf("largest packet has %d bytes, limit %d", s.Largest, gossip.MaxPacket)
				}
				before := c.packets.Stats().Sent
				time.Sleep(time.Minute)
				perNode := float64(c.packets.Stats().Sent-before) / 20 / 60
				if row.link.Loss == 0 && perNode > 1 {
					t.Errorf("%.2f packets a second and node with nothing to tell", perNode)
				}
			})
		})
	}
}

// TestKnownIsNotPassedOn: what all but a few know reaches those whose neighbours
// lack it too, and is not told all over the cluster again.
func TestKnownIsNotPassedOn(t *testing.T) {
	sentBy := func(known bool) (packets uint64) {
		synctest.Test(t, func(t *testing.T) {
			const members = 30
			c := newCluster(t, lan)
			for i := range members {
				n := c.start(i, 1, func(cfg *gossip.Config) {
					cfg.Known = func([]byte) bool { return known && i%10 != 0 }
				})
				if i > 0 {
					if err := n.Join(t.Context(), []identity.NodeID{c.nodes[i-1].id}); err != nil {
						t.Fatalf("Join: %v", err)
					}
				}
			}
			within(t, 20*time.Second, "everybody knows everybody", allAlive(c.nodes))
			time.Sleep(time.Minute)
			before := c.packets.Stats().Sent
			if err := c.nodes[0].Broadcast("news", []byte("of yesterday")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			packets = uint64(c.packets.Stats().Sent - before)
			for i, n := range c.nodes {
				if got := n.got("of yesterday"); got > 0 && (i == 0 || known && i%10 != 0) || !known && i > 0 && got != 1 {
					t.Errorf("node %d was told %d times, known: %v", i, got, known)
				}
			}
		})
		return packets
	}
	flooded, stopped := sentBy(false), sentBy(true)
	t.Logf("%d packets, %d where it is known", flooded, stopped)
	if stopped > flooded/4 {
		t.Errorf("%d packets for what is known, %d for news", stopped, flooded)
	}
}

func TestBroadcastLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, lan)
		n := c.start(0, 1, nil)
		if err := n.Broadcast("x", make([]byte, gossip.MaxMessage+1)); err == nil {
			t.Error("a message too long was taken")
		}
		if err := n.Broadcast(string(make([]byte, gossip.MaxName+1)), nil); err == nil {
			t.Error("a name too long was taken")
		}
	})
}
