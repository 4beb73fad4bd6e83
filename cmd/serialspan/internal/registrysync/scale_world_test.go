package registrysync_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/registrysync"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/meshtest"
	"github.com/serialspan/serialspan/registry"
)

// devicesEach is how many devices each member of a crowd has.
const devicesEach = 4

// crowd is a mesh of many members with devices, tied together as the agent
// does it.
type crowd struct {
	t           testing.TB
	net         *meshtest.Network
	start       time.Time
	passThrough bool
	all         []*one

	awaited atomic.Pointer[awaited]
}

// one is a member of a crowd.
type one struct {
	crowd    *crowd
	node     *meshtest.Node // nil: a real one
	mesh     *mesh.Mesh
	end      func() // ends the node
	registry *registry.Registry
	engine   *registrysync.Engine
	peers    atomic.Pointer[[]identity.NodeID]
	devices  []registry.Device
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// awaited is a change that the members note the arrival of.
type awaited struct {
	name, detail string
	since        time.Time
	mu           sync.Mutex
	seen         map[*one]time.Duration
}

func newCrowd(t *testing.T, link meshtest.Link, passThrough bool) *crowd {
	return &crowd{t: t, net: meshtest.New(t, link), start: time.Now(), passThrough: passThrough}
}

func (c *crowd) now() time.Duration { return time.Since(c.start) }

// add starts a member that joins through the first one.
func (c *crowd) add() *one {
	o := &one{crowd: c}
	name := fmt.Sprintf("node%d", len(c.all))
	options := meshtest.Options{
		Protocols: protocols, PassThrough: c.passThrough,
		OnBroadcast: o.onBroadcast, Known: o.knows, Digest: o.digest, OnDiffer: o.onDiffer, Prepare: o.prepare,
	}
	if len(c.all) > 0 {
		options.Join = []*meshtest.Node{c.all[0].node}
	}
	o.node = c.net.Start(name, options)
	o.end = o.node.Crash // as with a power cut: nobody needs to be told
	c.begin(o, name)
	return o
}

// begin starts what uses a member's mesh.
func (c *crowd) begin(o *one, name string) {
	c.all = append(c.all, o)
	ctx, cancel := context.WithCancel(context.Background())
	o.stop = cancel
	o.running.Go(func() {
		if err := o.engine.Run(ctx); err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
	})
	o.running.Go(func() { o.followMembers(ctx) })
	o.running.Go(func() { o.followDevices(ctx) })
	for i := range devicesEach {
		o.devices = append(o.devices, registry.Device{
			Name: fmt.Sprintf("%s-port%d", name, i), Kind: "serial", Profile: "ftdi", Line: "115200n81",
			Hardware: registry.Hardware{VID: "0403", PID: "6001", Serial: fmt.Sprintf("A10%s%d", name, i), Interface: "00"},
			Labels:   map[string]string{"zone": "garage"},
		})
	}
	o.publish()
}

var protocols = []string{registrysync.Protocol}

func (o *one) onBroadcast(message []byte)  { o.engine.OnBroadcast(message) }
func (o *one) knows(message []byte) bool   { return o.engine.Knows(message) }
func (o *one) digest() [8]byte             { return o.engine.Digest() }
func (o *one) onDiffer(id identity.NodeID) { o.engine.OnDiffer(id) }

// prepare makes the registry once the node has its identity.
func (o *one) prepare(m *mesh.Mesh, id *identity.Identity, cluster identity.ClusterID) {
	o.mesh = m
	o.peers.Store(&[]identity.NodeID{})
	o.registry = registry.New(registry.Config{Identity: id, Cluster: cluster, NodeName: m.Status().Name})
	o.engine = registrysync.New(registrysync.Config{
		Registry: o.registry, Self: id.ID(), Now: o.crowd.now, Broadcast: m.Broadcast, Interval: 5 * time.Minute,
		Peers: func() []identity.NodeID { return *o.peers.Load() },
		Dial: func(ctx context.Context, to identity.NodeID) (net.Conn, error) {
			return m.Dial(ctx, to, registrysync.Protocol)
		},
		Accept: func(ctx context.Context) (net.Conn, identity.NodeID, error) {
			return m.Accept(ctx, registrysync.Protocol)
		},
	})
	if err := o.engine.SetEpoch(m.Status().Epoch); err != nil {
		o.crowd.t.Error(err)
	}
}

func (o *one) publish() {
	if err := o.engine.Publish(o.devices); err != nil {
		o.crowd.t.Error(err)
	}
}

// followMembers is the agent's.
func (o *one) followMembers(ctx context.Context) {
	changes, stop := o.mesh.Watch()
	defer stop()
	for seen := uint64(1 << 63); ; {
		if now := o.mesh.Membership(); now != seen {
			seen = now
			o.takeMembers()
		}
		looked := time.Now()
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(max(0, max(100*time.Millisecond, time.Duration(len(*o.peers.Load()))*time.Millisecond)-time.Since(looked))):
		case <-ctx.Done():
			return
		}
	}
}

func (o *one) takeMembers() {
	views := make(map[identity.NodeID]registry.MemberView)
	var peers []identity.NodeID
	for _, m := range o.mesh.Members() {
		views[m.ID] = registry.MemberView{Name: m.Name, Alive: m.State == mesh.Alive}
		if m.State == mesh.Alive && !m.Self {
			peers = append(peers, m.ID)
		}
	}
	o.peers.Store(&peers)
	o.registry.SetMembers(views)
	o.engine.MembersChanged()
}

// followDevices notes when the awaited change arrives.
func (o *one) followDevices(ctx context.Context) {
	changes, stop := o.registry.Watch()
	defer stop()
	for {
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
		if a := o.crowd.awaited.Load(); a != nil {
			if s, err := o.registry.Resolve(o.crowd.now(), a.name); err == nil && s.Device.Detail == a.detail {
				a.note(o)
			}
		}
	}
}

func (a *awaited) note(o *one) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.seen[o]; !ok {
		a.seen[o] = time.Since(a.since)
	}
}

func (a *awaited) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// expect makes all members note when a device has a detail.
func (c *crowd) expect(name, detail string) *awaited {
	a := &awaited{name: name, detail: detail, since: time.Now(), seen: make(map[*one]time.Duration)}
	c.awaited.Store(a)
	return a
}

// change changes a device of a member.
func (o *one) change(number int) *awaited {
	d := &o.devices[number%devicesEach]
	d.Detail = fmt.Sprintf("change %d", number)
	a := o.crowd.expect(d.Name, d.Detail)
	o.publish()
	return a
}

// arrival waits until all members have seen a change and returns how long it
// took each, shortest first. Those that have not in time count as limit.
func (c *crowd) arrival(a *awaited, limit time.Duration) []time.Duration {
	for a.count() < len(c.all) && time.Since(a.since) < limit {
		time.Sleep(5 * time.Millisecond)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var took []time.Duration
	for _, o := range c.all {
		if t, ok := a.seen[o]; ok {
			took = append(took, t)
		} else {
			took = append(took, limit)
		}
	}
	slices.Sort(took)
	return took
}

// complete reports whether the member knows so many members and all devices.
func (o *one) complete(members int) bool {
	return len(*o.peers.Load()) == members-1 && len(o.registry.Devices(o.crowd.now())) == devicesEach*len(o.crowd.all)
}

// settle waits until all members know all others and all devices.
func (c *crowd) settle(limit time.Duration) (took time.Duration) {
	return c.settleAmong(len(c.all), limit)
}

// settleAmong is settle for a mesh with members that are not of the crowd, and
// have no devices.
func (c *crowd) settleAmong(members int, limit time.Duration) (took time.Duration) {
	start := time.Now()
	// One after the other: looking at all of them each time costs more than
	// what they do.
	for waiting := slices.Clone(c.all); len(waiting) > 0; {
		if waiting[0].complete(members) {
			waiting = waiting[1:]
			continue
		}
		if time.Since(start) > limit {
			c.t.Fatalf("%d of %d members may be incomplete after %v", len(waiting), len(c.all), limit)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(start)
}

// traffic returns what all members have sent.
func (c *crowd) traffic() (datagrams, bytes uint64) {
	for _, o := range c.all {
		d, b := o.node.Traffic()
		datagrams, bytes = datagrams+d, bytes+b
	}
	return datagrams, bytes
}

func (c *crowd) stop() {
	for _, o := range c.all {
		o.stop()
	}
	var ended sync.WaitGroup // all at once: those that are left would look for the others
	for _, o := range c.all {
		ended.Go(func() {
			o.running.Wait()
			o.end()
		})
	}
	ended.Wait()
}
