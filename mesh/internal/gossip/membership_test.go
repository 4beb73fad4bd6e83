package gossip_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

func TestRestartWithNewerRecord(t *testing.T) {
	for _, pause := range []time.Duration{0, 2 * time.Second, 2 * time.Minute} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 5, lan)
				c.nodes[2].stop()
				time.Sleep(pause)
				fresh := c.start(2, 2, nil)
				if err := fresh.Join(t.Context(), []identity.NodeID{c.nodes[0].id}); err != nil {
					t.Fatal(err)
				}
				nodes := []*node{c.nodes[0], c.nodes[1], fresh, c.nodes[3], c.nodes[4]}
				want := string(record(fresh.identity, 2))
				took := within(t, 20*time.Second, "new record", func() bool {
					return !slices.ContainsFunc(nodes, func(o *node) bool {
						return o.metaOf(fresh.id) != want || o.state(fresh.id) != gossip.Alive
					})
				})
				t.Logf("after %v", took)
				time.Sleep(2 * time.Minute)
				if !allAlive(nodes)() {
					t.Error("not everybody is alive later")
				}
			})
		})
	}
}

func TestInvalidRecordIsVetoed(t *testing.T) {
	other := identity.FromSeed([32]byte{99})
	rows := []struct {
		name string
		meta func(own []byte) []byte
	}{
		{"another's record", func([]byte) []byte { return record(other, 1) }},
		{"broken signature", func(own []byte) []byte { own[len(own)-1] ^= 1; return own }},
		{"nothing", func([]byte) []byte { return nil }},
		{"too long", func([]byte) []byte { return make([]byte, gossip.MaxMeta+1) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 3, lan)
				// The liar believes itself; the others check.
				bad := c.start(50, 1, func(cfg *gossip.Config) {
					honest := cfg.Verify
					cfg.Verify = func(meta []byte) (identity.NodeID, error) {
						if id, err := honest(meta); err == nil && id != other.ID() {
							return id, nil
						}
						return cfg.Self, nil
					}
				})
				if err := bad.Join(t.Context(), []identity.NodeID{c.nodes[0].id}); err != nil {
					t.Fatal(err)
				}
				good := bad.meta
				within(t, 5*time.Second, "known", func() bool { return c.nodes[2].metaOf(bad.id) == string(good) })
				bad.setMeta(row.meta(slices.Clone(good)))
				time.Sleep(30 * time.Second)
				for _, n := range c.nodes[:3] {
					if got := n.metaOf(bad.id); got != string(good) {
						t.Errorf("the invalid record was taken: %x", got)
					}
				}
				if c.nodes[0].Stats().Vetoed == 0 {
					t.Error("no veto was counted")
				}
				if !allAlive(c.nodes[:3])() {
					t.Error("an honest member is not alive")
				}
			})
		})
	}
}

func TestPartitionHealsByJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 6, lan)
		one, other := c.nodes[:3], c.nodes[3:]
		c.cut(one, other, true)
		within(t, 3*time.Minute, "halves are dead to each other", func() bool {
			for _, n := range one {
				for _, o := range other {
					if n.state(o.id) != gossip.Dead || o.state(n.id) != gossip.Dead {
						return false
					}
				}
			}
			return true
		})
		time.Sleep(5 * time.Minute)
		if err := one[0].Join(t.Context(), []identity.NodeID{other[0].id}); err == nil {
			t.Error("Join over a cut succeeded")
		}
		c.cut(one, other, false)
		if err := one[0].Join(t.Context(), []identity.NodeID{other[1].id}); err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Second, "healed", allAlive(c.nodes))
	})
}

// TestMissedNewsIsRepaired: who was deaf while news went round hears it from a
// digest, and agreement costs no streams.
func TestMissedNewsIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := grown(t, 4, lan)
		deaf := c.nodes[3]
		for _, n := range c.nodes[:3] {
			c.packets.SetDirection(memnet.AddrOf(n.id), memnet.AddrOf(deaf.id), memnet.Link{Down: true})
		}
		late := c.start(20, 1, nil)
		c.packets.SetDirection(memnet.AddrOf(late.id), memnet.AddrOf(deaf.id), memnet.Link{Down: true})
		if err := late.Join(t.Context(), []identity.NodeID{c.nodes[0].id}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		if deaf.state(late.id) != 0 {
			t.Fatal("the deaf node has heard; the test shows nothing")
		}
		for _, n := range append(c.nodes[:3:3], late) {
			c.packets.SetDirection(memnet.AddrOf(n.id), memnet.AddrOf(deaf.id), lan)
		}
		took := within(t, 30*time.Second, "the deaf node knows", func() bool { return deaf.state(late.id) == gossip.Alive })
		t.Logf("after %v", took)
		time.Sleep(2 * time.Minute) // QUIC connections have ended
		before := c.streams.Stats().Sent
		time.Sleep(10 * time.Minute)
		if sent := c.streams.Stats().Sent - before; sent > 0 {
			t.Errorf("%d packets of streams while all agree", sent)
		}
	})
}
