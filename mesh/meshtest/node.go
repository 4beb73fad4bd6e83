package meshtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/memtunnel"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
)

// Options is how a node is started. The zero value is a node that waits for
// others to join through it.
type Options struct {
	Join        []*Node                    // join through these
	JoinAddress []string                   // and these
	Protocols   []string                   // for Accept
	Relay       mesh.RelayMode             // default: auto
	ForgetAfter time.Duration              // default: mesh.DefaultForgetAfter
	OnBroadcast func([]byte)               // see mesh.Config
	Known       func([]byte) bool          // see mesh.Config
	Digest      func() [8]byte             // see mesh.Config
	OnDiffer    func(identity.NodeID)      // see mesh.Config
	Admit       func(identity.NodeID) bool // default: everybody
	Admins      func() []identity.NodeID   // default: none
	OnSecret    func(identity.Secret)      // see mesh.Config
	OnRemoved   func(identity.NodeID)      // see mesh.Config
	Secret      identity.Secret            // default: the network's
	StateDir    string                     // default: a new one
	Addr        netip.AddrPort             // default: a new one
	NAT         NAT                        // the router before it; default: none
	Wall        func() time.Time           // its wall clock; default: the bubble's
	KubeSpan    *KubeSpan                  // the one that it is in; default: none
	PassThrough bool                       // in place of WireGuard, see package memtunnel
	// Prepare is called with the node before it runs; default: nothing.
	Prepare func(*mesh.Mesh, *identity.Identity, identity.ClusterID)
	Logger  *slog.Logger // default: none
}

// NAT is what kind of router a node is behind.
type NAT struct {
	Kind    NATKind
	Timeout time.Duration // of a mapping that nothing passes; default 30 s
}

// NATKind says how a router translates addresses. Both kinds let in only what
// answers the node.
type NATKind int

const (
	// NoNAT: there is no router.
	NoNAT NATKind = iota
	// Cone: every member sees the same port (endpoint-independent mapping).
	Cone
	// Symmetric: every member sees another port.
	Symmetric
)

// Node is a mesh node on a Network.
type Node struct {
	*mesh.Mesh
	Name string
	Addr netip.AddrPort // its UDP address
	Dir  string         // its state directory

	net     *Network
	options Options
	socket  *memnet.UDP
	store   *mesh.Store
	span    *spanNode
	cancel  context.CancelFunc
	done    chan error
	over    bool
	crashed bool
}

// Start starts a node. The network's test ends it, if nothing else does.
func (n *Network) Start(name string, o Options) *Node {
	n.t.Helper()
	if o.Secret == (identity.Secret{}) {
		o.Secret = n.secret
	}
	if o.StateDir == "" {
		o.StateDir = n.t.TempDir()
	}
	if !o.Addr.IsValid() {
		o.Addr = n.nextAddr()
	}
	store, err := mesh.OpenStore(o.StateDir, "machine of "+name)
	n.fatal(err, "start %s", name)
	node := &Node{Name: name, Addr: o.Addr, Dir: o.StateDir, net: n, options: o, socket: n.socket(o), store: store, done: make(chan error, 1)}
	join := o.JoinAddress
	for _, other := range o.Join {
		join = append(join, other.Addr.String())
	}
	var span mesh.KubeSpan
	if o.KubeSpan != nil {
		node.span = o.KubeSpan.add(node)
		span = node.span
	}
	var carrier func(tunnel.Config) mesh.Carrier
	if o.PassThrough {
		carrier = func(c tunnel.Config) mesh.Carrier { return memtunnel.New(c) }
	}
	node.Mesh, err = mesh.New(mesh.Config{
		Store: store, Secret: o.Secret, Name: name, Socket: node.socket, Join: join,
		Protocols: o.Protocols, OnBroadcast: o.OnBroadcast, Known: o.Known, Digest: o.Digest, OnDiffer: o.OnDiffer, Relay: o.Relay, Admit: o.Admit, Admins: o.Admins, OnSecret: o.OnSecret, OnRemoved: o.OnRemoved, ForgetAfter: o.ForgetAfter, Wall: o.Wall, Carrier: carrier, KubeSpan: span, Logger: o.Logger,
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{o.Addr.Addr()}, nil },
	})
	n.fatal(err, "start %s", name)
	if o.Prepare != nil {
		o.Prepare(node.Mesh, node.Identity(), o.Secret.Cluster)
	}
	ctx, cancel := context.WithCancel(context.Background())
	node.cancel = cancel
	go func() {
		err := node.Run(ctx)
		node.socket.Close()
		store.Close()
		node.done <- err
	}()
	n.t.Cleanup(node.Stop)
	return node
}

// Identity returns the node's identity.
func (n *Node) Identity() *identity.Identity {
	id, _ := n.store.Identity()
	return id
}

// Traffic returns how many datagrams the node's socket has sent, and how many
// bytes with their IPv4 and UDP headers (28 each).
func (n *Node) Traffic() (datagrams, bytes uint64) {
	datagrams, bytes = n.socket.Sent()
	return datagrams, bytes + 28*datagrams
}

// socket makes a node's socket, behind its router if it has one. The outside
// address is made from the inner one, so that a node that restarts keeps it.
func (n *Network) socket(o Options) *memnet.UDP {
	if o.NAT.Kind == NoNAT {
		return n.hub.UDP(o.Addr)
	}
	outside := o.Addr.Addr().As4()
	outside[0], outside[1] = 198, 18 // RFC 2544: for tests
	return n.hub.UDPBehind(o.Addr, memnet.NAT{
		Public: netip.AddrFrom4(outside), Symmetric: o.NAT.Kind == Symmetric, Timeout: o.NAT.Timeout,
	})
}

// Sent returns what the node has sent since it started, by the first byte of
// the datagrams: WireGuard's types 1 to 4, those of package join and probe.
func (n *Node) Sent() map[byte]Traffic {
	sent := make(map[byte]Traffic)
	for kind, t := range n.socket.SentByType() {
		sent[kind] = Traffic(t)
	}
	return sent
}

// Silence returns the longest pause so far between two datagrams from this node
// to another's address.
func (n *Node) Silence(to *Node) time.Duration { return n.socket.Silence(to.Addr) }

// ForgetFlows makes the router before the node forget whom it let in, but for
// some: as if only they had been spoken to for long.
func (n *Node) ForgetFlows(but ...*Node) {
	var kept []netip.AddrPort
	for _, other := range but {
		kept = append(kept, other.Addr)
	}
	n.net.hub.Forget(n.socket, kept...)
}

// Traffic is datagrams and the bytes in them, without IP and UDP headers.
type Traffic struct{ Datagrams, Bytes uint64 }

// Stop stops the node in order: the others are told.
func (n *Node) Stop() {
	if n.over {
		return
	}
	n.over = true
	n.cancel()
	if err := <-n.done; err != nil && !(n.crashed && errors.Is(err, net.ErrClosed)) {
		n.net.t.Errorf("node %s: %v", n.Name, err)
	}
}

// Crash ends the node as a power cut does: nobody is told.
func (n *Node) Crash() {
	n.crashed = true
	n.socket.Close()
	n.Stop()
}

// Restart starts the node again, on its state directory and address, after
// Stop or Crash.
func (n *Node) Restart() *Node {
	o := n.options
	o.StateDir, o.Addr = n.Dir, n.Addr
	return n.net.Start(n.Name, o)
}

// Member returns what this node knows of another; ok is false for nothing.
func (n *Node) Member(other *Node) (member mesh.Member, ok bool) {
	for _, m := range n.Members() {
		if m.ID == other.Self() {
			return m, true
		}
	}
	return mesh.Member{}, false
}

// State returns what this node thinks of another's liveness.
func (n *Node) State(other *Node) mesh.State {
	m, _ := n.Member(other)
	return m.State
}

func addrs(nodes []*Node) []net.Addr {
	var all []net.Addr
	for _, n := range nodes {
		all = append(all, memnet.UDPAddr(n.Addr))
	}
	return all
}
