// Package meshtest is a network of whole mesh nodes in one process and in
// memory, for everyone's tests. Delay, loss, cuts and crashes are the test's to
// choose; everything above the UDP socket is the real code.
//
// It works only in a testing/synctest bubble: hours of mesh life take milliseconds, and
// nothing depends on how busy the machine is. Make the Network inside the
// bubble and let its cleanup end all nodes there:
//
//	synctest.Test(t, func(t *testing.T) {
//		net := meshtest.New(t, meshtest.Link{Delay: 10 * time.Millisecond})
//		a := net.Start("a", meshtest.Options{})
//		b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{a}})
//		net.WaitFor(time.Second, "b to be alive at a", func() bool { return a.State(b) == mesh.Alive })
//	})
package meshtest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// Link is what happens to datagrams between two nodes, each way.
type Link struct {
	Delay  time.Duration // one way
	Jitter time.Duration // added, uniform in [0, Jitter): datagrams overtake each other
	Loss   float64       // probability that a datagram is lost
	Twice  float64       // probability that a datagram arrives twice
	MTU    int           // datagrams with more bytes than this vanish; 0: none does
}

// Network is an in-memory network with one cluster on it.
type Network struct {
	t      testing.TB
	hub    *memnet.Hub
	link   Link
	secret identity.Secret
	nodes  int
}

// New makes a network whose links are all like link.
func New(t testing.TB, link Link) *Network {
	t.Helper()
	return NewSeeded(t, link, 0)
}

// NewSeeded is New with a seed for losses, jitter and duplicates. The scheduler
// still has a say in what they hit.
func NewSeeded(t testing.TB, link Link, seed uint64) *Network {
	t.Helper()
	secret, err := identity.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	// The nodes' last pings time out within a minute of virtual time, which
	// stands still when the test is over.
	t.Cleanup(func() { time.Sleep(time.Minute) })
	return &Network{t: t, link: link, secret: secret, hub: memnet.New(memnet.Config{Link: hubLink(link), Seed: seed})}
}

func hubLink(l Link) memnet.Link {
	return memnet.Link{Delay: l.Delay, Jitter: l.Jitter, Loss: l.Loss, Twice: l.Twice, MTU: l.MTU}
}

// Secret returns the cluster's secret.
func (n *Network) Secret() identity.Secret { return n.secret }

// Socket returns a UDP socket on the network at an address of its own, for a
// node that is not started by Start.
func (n *Network) Socket() mesh.Socket { return n.hub.UDP(n.nextAddr()) }

// SocketAt is Socket at the address of an earlier socket, which it replaces.
func (n *Network) SocketAt(addr netip.AddrPort) mesh.Socket { return n.hub.UDP(addr) }

// SetLink changes the link between two nodes, both ways.
func (n *Network) SetLink(a, b *Node, l Link) {
	n.hub.SetLink(memnet.UDPAddr(a.Addr), memnet.UDPAddr(b.Addr), hubLink(l))
}

// SetDirection changes what happens to datagrams from one node to another.
func (n *Network) SetDirection(from, to *Node, l Link) {
	n.hub.SetDirection(memnet.UDPAddr(from.Addr), memnet.UDPAddr(to.Addr), hubLink(l))
}

// Cut takes down the links between two groups; Heal brings them up.
func (n *Network) Cut(one, other []*Node) { n.hub.Cut(addrs(one), addrs(other)) }

// Addr returns an address that no node has yet, for Options.Addr.
func (n *Network) Addr() netip.AddrPort { return n.nextAddr() }

// CutAddrs is Cut for two addresses whose nodes need not be there yet.
func (n *Network) CutAddrs(a, b netip.AddrPort) {
	n.hub.Cut([]net.Addr{memnet.UDPAddr(a)}, []net.Addr{memnet.UDPAddr(b)})
}

// Heal brings up what Cut took down.
func (n *Network) Heal(one, other []*Node) { n.hub.Heal(addrs(one), addrs(other)) }

// Inject sends a datagram to a node from an address that no node has, and
// returns what comes back to that address within wait.
func (n *Network) Inject(from netip.AddrPort, to *Node, datagrams [][]byte, wait time.Duration) (answers int) {
	n.t.Helper()
	stranger := n.hub.UDP(from)
	defer stranger.Close()
	for _, d := range datagrams {
		if err := stranger.WriteTo(d, to.Addr, netip.Addr{}); err != nil {
			n.t.Fatal(err)
		}
		if len(datagrams) > 1 {
			time.Sleep(100 * time.Microsecond) // virtual: the receiver's queue is bounded
		}
	}
	stranger.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 2048)
	for {
		if _, _, _, _, err := stranger.ReadFrom(buf); err != nil {
			return answers
		}
		answers++
	}
}

// WaitFor waits until condition holds, looking every millisecond of virtual
// time, and fails the test after limit. It returns how long it took.
func (n *Network) WaitFor(limit time.Duration, what string, condition func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !condition() {
		if time.Since(start) > limit {
			n.t.Fatalf("waited %v for %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

func (n *Network) nextAddr() netip.AddrPort {
	n.nodes++
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + n.nodes/250), byte(1 + n.nodes%250)}), mesh.DefaultPort)
}

func (n *Network) fatal(err error, what string, args ...any) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}
