package gossip_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is a stand-in for the signed node record: version, key, signature.
func record(id *identity.Identity, version byte) []byte {
	body := append([]byte{version}, id.Public()...)
	return append(body, id.Sign("test record", body)...)
}

func verify(meta []byte) (identity.NodeID, error) {
	const body = 1 + ed25519.PublicKeySize
	if len(meta) != body+ed25519.SignatureSize {
		return identity.NodeID{}, errors.New("wrong size")
	}
	key := ed25519.PublicKey(meta[1:body])
	if !identity.Verify(key, "test record", meta[:body], meta[body:]) {
		return identity.NodeID{}, errors.New("wrong signature")
	}
	return identity.NodeIDOf(key), nil
}

func meshAddress(id identity.NodeID) netip.Addr {
	a := [16]byte{0xfd, 1}
	copy(a[8:], id[:8])
	return netip.AddrFrom16(a)
}

// cluster is a network for packets and one for streams, cut alike.
type cluster struct {
	t                *testing.T
	packets, streams *memnet.Hub
	nodes            []*node
}

type node struct {
	*gossip.Gossip
	identity *identity.Identity
	id       identity.NodeID
	cancel   func()
	ended    chan struct{}

	mu       sync.Mutex
	meta     []byte
	messages map[string]int
	records  map[identity.NodeID][]byte
	changes  int
}

func newCluster(t *testing.T, link memnet.Link) *cluster {
	return &cluster{
		t:       t,
		packets: memnet.New(memnet.Config{Link: link, Seed: 1}),
		streams: memnet.New(memnet.Config{Link: link, Seed: 2}),
	}
}

// start runs a node with the identity of the index and a record of the version.
func (c *cluster) start(index int, version byte, change func(*gossip.Config)) *node {
	c.t.Helper()
	id := identity.FromSeed([32]byte{byte(index), 7})
	n := &node{
		identity: id, id: id.ID(), ended: make(chan struct{}), meta: record(id, version),
		messages: make(map[string]int), records: make(map[identity.NodeID][]byte),
	}
	packets, quicPackets := c.packets.Conn(memnet.AddrOf(n.id)), c.streams.Conn(memnet.AddrOf(n.id))
	q, err := quicnet.New(quicnet.Config{Identity: id, PacketConn: quicPackets, Addr: memnet.AddrOf, NodeOf: memnet.NodeOf})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := q.Listen("gossip"); err != nil {
		c.t.Fatal(err)
	}
	cfg := gossip.Config{
		Self: n.id, Address: meshAddress, Label: "cluster-one", Key: [32]byte{1, 2, 3},
		Meta:    func() []byte { n.mu.Lock(); defer n.mu.Unlock(); return n.meta },
		Verify:  verify,
		Packets: packets, Addr: memnet.AddrOf, NodeOf: memnet.NodeOf,
		DialStream: func(ctx context.Context, id identity.NodeID) (net.Conn, error) {
			return q.Dial(ctx, id, "gossip")
		},
		AcceptStream: func(ctx context.Context) (net.Conn, identity.NodeID, error) {
			return q.Accept(ctx, "gossip")
		},
		OnRecord:  func(id identity.NodeID, meta []byte) { n.mu.Lock(); defer n.mu.Unlock(); n.records[id] = meta },
		OnMessage: func(m []byte) { n.mu.Lock(); defer n.mu.Unlock(); n.messages[string(m)]++ },
		OnChange: func() {
			_ = n.Members() // calls are allowed here
			n.mu.Lock()
			defer n.mu.Unlock()
			n.changes++
		},
	}
	if change != nil {
		change(&cfg)
	}
	g, err := gossip.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.ended)
		var wg sync.WaitGroup
		quicCtx, quicEnd := context.WithCancel(context.Background())
		wg.Go(func() {
			if err := q.Run(quicCtx); err != nil {
				c.t.Errorf("run quicnet: %v", err)
			}
		})
		if err := g.Run(ctx); err != nil {
			c.t.Errorf("run gossip: %v", err)
		}
		quicEnd()
		wg.Wait()
		_ = packets.Close()
		_ = quicPackets.Close()
	}()
	c.t.Cleanup(n.stop)
	c.nodes = append(c.nodes, n)
	return n
}

// stop ends a node without a farewell.
func (n *node) stop() {
	n.cancel()
	<-n.ended
}

func (n *node) setMeta(meta []byte) {
	n.mu.Lock()
	n.meta = meta
	n.mu.Unlock()
	n.UpdateMeta()
}

func (n *node) got(message string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.messages[message]
}

func (n *node) state(id identity.NodeID) gossip.State {
	for _, m := range n.Members() {
		if m.ID == id {
			return m.State
		}
	}
	return 0
}

func (n *node) metaOf(id identity.NodeID) string {
	for _, m := range n.Members() {
		if m.ID == id {
			return string(m.Meta)
		}
	}
	return ""
}

func (c *cluster) cut(one, other []*node, down bool) {
	addrs := func(nodes []*node) (out []net.Addr) {
		for _, n := range nodes {
			out = append(out, memnet.AddrOf(n.id))
		}
		return out
	}
	for _, hub := range []*memnet.Hub{c.packets, c.streams} {
		if down {
			hub.Cut(addrs(one), addrs(other))
		} else {
			hub.Heal(addrs(one), addrs(other))
		}
	}
}

// within waits in virtual time until cond holds.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !cond() {
		if time.Since(begin) >= limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begin)
}

func allAlive(nodes []*node) func() bool {
	return func() bool {
		for _, n := range nodes {
			for _, other := range nodes {
				if n.state(other.id) != gossip.Alive {
					return false
				}
			}
		}
		return true
	}
}

// grown starts count nodes, each joining through the one before.
func grown(t *testing.T, count int, link memnet.Link) *cluster {
	t.Helper()
	c := newCluster(t, link)
	for i := range count {
		n := c.start(i, 1, nil)
		if i > 0 {
			if err := n.Join(t.Context(), []identity.NodeID{c.nodes[i-1].id}); err != nil {
				t.Fatalf("Join: %v", err)
			}
		}
	}
	within(t, 20*time.Second, "everybody knows everybody", allAlive(c.nodes))
	return c
}

var lan = memnet.Link{Delay: 2 * time.Millisecond}

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

// TestStopIsQuick: probes that wait for dead members do not delay the end.
func TestStopIsQuick(t *testing.T) {
	for _, wait := range []time.Duration{0, 5 * time.Second, 11 * time.Second, 17 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 6, lan)
				c.cut(c.nodes[:3], c.nodes[3:], true)
				time.Sleep(wait + 1234*time.Millisecond)
				for _, n := range c.nodes {
					begin := time.Now()
					n.stop()
					if d := time.Since(begin); d > 200*time.Millisecond {
						t.Errorf("Run ended after %v", d)
					}
				}
			})
		})
	}
}

func TestStopDuringJoinAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, lan)
		a := c.start(0, 1, nil)
		silent := identity.FromSeed([32]byte{77}).ID()
		done := make(chan error, 2)
		go func() { done <- a.Join(t.Context(), []identity.NodeID{silent}) }()
		time.Sleep(time.Second)
		begin := time.Now()
		a.stop()
		if err := <-done; err == nil {
			t.Error("Join of nobody succeeded")
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("ended after %v", d)
		}
		if err := a.Join(t.Context(), []identity.NodeID{silent}); !errors.Is(err, gossip.ErrNotRunning) {
			t.Errorf("Join after Run: %v", err)
		}
		if err := a.Leave(time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Leave after Run: %v", err)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		a.UpdateMeta()
		_ = a.Broadcast("x", []byte("y"))
	})
}

func TestJoinEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, lan)
		a, b := c.start(0, 1, nil), c.start(1, 1, nil)
		c.cut([]*node{a}, []*node{b}, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := a.Join(ctx, []identity.NodeID{b.id}); err == nil {
			t.Error("Join over a cut succeeded")
		}
		if d := time.Since(begin); d != time.Second {
			t.Errorf("after %v, want 1s", d)
		}
		if err := a.Join(t.Context(), nil); err != nil {
			t.Errorf("Join of none: %v", err)
		}
	})
}

func TestOtherKeyOrLabelStaysOut(t *testing.T) {
	rows := map[string]func(*gossip.Config){
		"key":   func(c *gossip.Config) { c.Key[0] ^= 1 },
		"label": func(c *gossip.Config) { c.Label = "cluster-two" },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 2, lan)
				stranger := c.start(8, 1, change)
				if err := stranger.Join(t.Context(), []identity.NodeID{c.nodes[0].id}); err == nil {
					t.Error("Join succeeded")
				}
				time.Sleep(10 * time.Second)
				if c.nodes[0].state(stranger.id) != 0 || stranger.state(c.nodes[0].id) != 0 {
					t.Error("the stranger is known")
				}
			})
		})
	}
}

func TestLogsGoThroughSlogAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &counter{level: slog.LevelDebug}
		c := newCluster(t, lan)
		a := c.start(0, 1, nil)
		b := c.start(1, 1, func(cfg *gossip.Config) { cfg.Logger = slog.New(h) })
		if err := b.Join(t.Context(), []identity.NodeID{a.id}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.records == 0 || h.records > 20 || h.above > 0 || h.longest > 300 {
			t.Errorf("%d records in ten quiet minutes, %d above debug, longest %d bytes", h.records, h.above, h.longest)
		}
	})
}

// counter is a slog.Handler that counts.
type counter struct {
	level                   slog.Level
	mu                      sync.Mutex
	records, above, longest int
}

func (c *counter) Enabled(_ context.Context, l slog.Level) bool { return l >= c.level }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c *counter) WithGroup(string) slog.Handler                { return c }
func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records++
	if r.Level > slog.LevelDebug {
		c.above++
	}
	r.Attrs(func(a slog.Attr) bool {
		c.longest = max(c.longest, len(a.Value.String()))
		return true
	})
	return nil
}
