package meshtest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/kubespan"
)

// KubeSpan is a simulated KubeSpan for nodes of a Network, which are in it by
// Options.KubeSpan. Each has an address there besides its own. What goes to a
// node's own address from another of them is forced through it, as Talos does it,
// dead or alive, unless marked to stay out.
type KubeSpan struct {
	// Unprivileged: its nodes' agents may neither read its peers nor mark
	// datagrams. Set it before nodes are started.
	Unprivileged bool

	net    *Network
	prefix netip.Prefix
	nodes  []*spanNode
	given  uint64
}

// KubeSpan makes a KubeSpan without nodes.
func (n *Network) KubeSpan() *KubeSpan {
	return &KubeSpan{net: n, prefix: netip.MustParsePrefix("fd7f:175a:b97c:5602::/64")}
}

// Kill takes down the links of the KubeSpan as it is: everything in it vanishes in
// silence, and nothing tells of it. Revive brings them up.
func (k *KubeSpan) Kill() { k.net.hub.Cut(k.addrs(), k.addrs()) }

// Revive brings up what Kill took down.
func (k *KubeSpan) Revive() { k.net.hub.Heal(k.addrs(), k.addrs()) }

// Leave takes the KubeSpan's link away from a node.
func (k *KubeSpan) Leave(n *Node) {
	n.socket.SetOverlay(netip.Addr{})
	n.span.addr = netip.Addr{}
	k.tell()
}

// Enter gives a node a new address, in place of one that it has.
func (k *KubeSpan) Enter(n *Node) {
	k.given++
	b := k.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], k.given)
	n.span.addr = netip.AddrFrom16(b)
	n.socket.SetOverlay(n.span.addr)
	k.tell()
}

// add takes a node in that is started, or started again.
func (k *KubeSpan) add(n *Node) *spanNode {
	old := slices.IndexFunc(k.nodes, func(s *spanNode) bool { return s.node.Addr == n.Addr })
	n.span = &spanNode{node: n, changes: make(chan struct{}, 1)}
	if k.Unprivileged {
		n.socket.Unprivileged()
	}
	if old < 0 {
		k.nodes = append(k.nodes, n.span)
		k.Enter(n)
		return n.span
	}
	n.span.addr = k.nodes[old].addr
	k.nodes[old] = n.span
	n.socket.SetOverlay(n.span.addr)
	k.tell()
	return n.span
}

// tell lets all nodes know what the KubeSpan is now.
func (k *KubeSpan) tell() {
	for _, s := range k.nodes {
		state := kubespan.State{Why: "no link named kubespan"}
		if s.addr.IsValid() {
			state = kubespan.State{
				Present: true, Address: s.addr, Prefix: k.prefix, Link: memnet.OverlayLink, MTU: 1420,
				Rule: true, Forced: true, Privileged: !k.Unprivileged,
			}
			for _, other := range k.nodes {
				if other != s && other.addr.IsValid() && !k.Unprivileged {
					own := netip.PrefixFrom(other.node.Addr.Addr(), 32)
					state.Peers = append(state.Peers, kubespan.Peer{Address: other.addr, NodeAddresses: []netip.Prefix{own}})
				}
			}
		}
		s.set(state)
	}
}

func (k *KubeSpan) addrs() (all []net.Addr) {
	for _, s := range k.nodes {
		if s.addr.IsValid() {
			all = append(all, memnet.UDPAddr(netip.AddrPortFrom(s.addr, s.node.Addr.Port())))
		}
	}
	return all
}

// spanNode is what a node sees of its KubeSpan: a mesh.KubeSpan.
type spanNode struct {
	node    *Node
	addr    netip.Addr // the test's, as the KubeSpan is
	changes chan struct{}

	mu    sync.Mutex
	state kubespan.State
}

func (s *spanNode) set(state kubespan.State) {
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
	select {
	case s.changes <- struct{}{}:
	default:
	}
}

// State returns what was last told.
func (s *spanNode) State() kubespan.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Changes has a value after State has changed.
func (s *spanNode) Changes() <-chan struct{} { return s.changes }

// Run returns nil when ctx ends.
func (s *spanNode) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
