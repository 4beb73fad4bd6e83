package registrysync_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/registrysync"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var cluster = identity.ClusterID{1}

// hub is an in-memory mesh: it says who reaches whom and carries broadcasts
// and streams.
type hub struct {
	t     testing.TB
	start time.Time
	nodes []*member

	mu   sync.Mutex
	side map[identity.NodeID]int // partitions: members of one side reach each other
	deaf bool                    // broadcasts are lost
	cut  func(net.Conn) net.Conn // wraps the dialer's end of a stream

	dialed atomic.Int64 // streams
	refuse atomic.Int64 // so many dials fail
}

type member struct {
	hub      *hub
	id       *identity.Identity
	name     string
	registry *registry.Registry
	engine   *registrysync.Engine
	streams  chan stream
	inbox    chan []byte
	stop     context.CancelFunc
	running  sync.WaitGroup
}

type stream struct {
	conn net.Conn
	from identity.NodeID
}

func newHub(t testing.TB, n int) *hub {
	h := &hub{t: t, start: time.Now(), side: make(map[identity.NodeID]int)}
	for range n {
		h.add()
	}
	return h
}

func (h *hub) now() time.Duration { return time.Since(h.start) }

// add makes a member that does not run yet.
func (h *hub) add() *member {
	n := len(h.nodes)
	m := &member{
		hub: h, id: identity.FromSeed([32]byte{byte(n + 1)}), name: fmt.Sprint("node", n),
		streams: make(chan stream), inbox: make(chan []byte, 4096),
	}
	m.registry = registry.New(registry.Config{Identity: m.id, Cluster: cluster, NodeName: m.name})
	m.engine = registrysync.New(registrysync.Config{
		Registry: m.registry, Self: m.id.ID(), Now: h.now,
		Peers: m.peers, Dial: m.dial, Accept: m.accept, Broadcast: m.send,
	})
	if err := m.engine.SetEpoch(1); err != nil {
		h.t.Fatal(err)
	}
	h.nodes = append(h.nodes, m)
	return m
}

// run starts members; stopAll ends them.
func (h *hub) run(members ...*member) {
	for _, m := range members {
		ctx, cancel := context.WithCancel(h.t.Context())
		h.mu.Lock()
		m.stop = cancel
		h.mu.Unlock()
		m.running.Go(func() {
			if err := m.engine.Run(ctx); err != nil {
				h.t.Errorf("%s: %v", m.name, err)
			}
		})
		m.running.Go(func() {
			for {
				select {
				case msg := <-m.inbox:
					m.engine.OnBroadcast(msg)
					clear(msg) // the carrier uses its buffer again
				case <-ctx.Done():
					return
				}
			}
		})
	}
	h.membersChanged()
}

func (h *hub) stopAll() {
	for _, m := range h.nodes {
		if m.stop != nil {
			m.stop()
		}
	}
	for _, m := range h.nodes {
		m.running.Wait()
	}
}

func (h *hub) membersChanged() {
	for _, m := range h.nodes {
		views := make(map[identity.NodeID]registry.MemberView)
		for _, p := range h.nodes {
			views[p.id.ID()] = registry.MemberView{Name: p.name, Alive: p == m || m.reaches(p)}
		}
		m.registry.SetMembers(views)
		m.engine.MembersChanged()
	}
}

// partition puts members on sides; those not named are on side 0.
func (h *hub) partition(sides map[*member]int) {
	h.mu.Lock()
	clear(h.side)
	for m, side := range sides {
		h.side[m.id.ID()] = side
	}
	h.mu.Unlock()
	h.membersChanged()
}

func (m *member) reaches(p *member) bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return p != m && p.stop != nil && m.stop != nil && m.hub.side[m.id.ID()] == m.hub.side[p.id.ID()]
}

func (m *member) peers() []identity.NodeID {
	var ids []identity.NodeID
	for _, p := range m.hub.nodes {
		if m.reaches(p) {
			ids = append(ids, p.id.ID())
		}
	}
	return ids
}

func (m *member) dial(ctx context.Context, to identity.NodeID) (net.Conn, error) {
	i := slices.IndexFunc(m.hub.nodes, func(p *member) bool { return p.id.ID() == to })
	if i < 0 || !m.reaches(m.hub.nodes[i]) {
		return nil, errors.New("no path")
	}
	if m.hub.refuse.Add(-1) >= 0 {
		return nil, errors.New("no path yet")
	}
	near, far := net.Pipe()
	select {
	case m.hub.nodes[i].streams <- stream{far, m.id.ID()}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.hub.dialed.Add(1)
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	if m.hub.cut != nil {
		near = m.hub.cut(near)
	}
	return near, nil
}

func (m *member) accept(ctx context.Context) (net.Conn, identity.NodeID, error) {
	select {
	case s := <-m.streams:
		return s.conn, s.from, nil
	case <-ctx.Done():
		return nil, identity.NodeID{}, ctx.Err()
	}
}

func (m *member) send(_ string, msg []byte) {
	if len(msg) > 1000 {
		m.hub.t.Errorf("broadcast of %d bytes", len(msg))
	}
	m.hub.mu.Lock()
	deaf := m.hub.deaf
	m.hub.mu.Unlock()
	for _, p := range m.hub.nodes {
		if deaf || !m.reaches(p) {
			continue
		}
		select {
		case p.inbox <- slices.Clone(msg):
		default:
		}
	}
}

func (m *member) publish(devices ...registry.Device) {
	m.hub.t.Helper()
	if err := m.engine.Publish(devices); err != nil {
		m.hub.t.Fatal(err)
	}
}

// agree reports whether all the members hold the same.
func agree(members ...*member) bool {
	return !slices.ContainsFunc(members, func(m *member) bool { return m.registry.Root() != members[0].registry.Root() })
}

// within waits, in virtual time, until is holds, and fails after limit.
func (h *hub) within(limit time.Duration, what string, is func() bool) {
	h.t.Helper()
	for begin := h.now(); ; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		if is() {
			h.t.Logf("%s: after %v", what, h.now()-begin)
			return
		}
		if h.now()-begin > limit {
			h.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// devices returns n devices of a member.
func (m *member) devices(n int) []registry.Device {
	var all []registry.Device
	for i := range n {
		all = append(all, registry.Device{Name: fmt.Sprintf("%s-with-a-long-name-for-a-serial-adapter-%d", m.name, i)})
	}
	return all
}
