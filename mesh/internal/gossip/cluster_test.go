package gossip_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
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
	// The last pings of memberlist time out in a minute of virtual time, which
	// stands still when the test is over.
	t.Cleanup(func() { time.Sleep(time.Minute) })
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
		OnChange: func([]gossip.Member) {
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
	synctest.Wait() // the callbacks run on goroutines of their own
	return c
}

var lan = memnet.Link{Delay: 2 * time.Millisecond}
