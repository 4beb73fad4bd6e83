package lab

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
)

// NewLink makes hosts on one Ethernet link, without a router: 10.93.0.0/24 and
// IPv6 link-local addresses. It skips the test without root.
func NewLink(tb testing.TB, names ...string) *Network {
	tb.Helper()
	NeedRoot(tb)
	sweep(tb)
	prefix := fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), networks.Add(1))
	n := &Network{prefix: prefix, router: prefix + "switch", hosts: map[string]*Host{}}
	addNamespace(tb, n.router)
	ip(tb, "-n", n.router, "link", "add", "br0", "type", "bridge")
	ip(tb, "-n", n.router, "link", "set", "br0", "up")
	for i, name := range names {
		h := &Host{Name: name, Addr: netip.AddrFrom4([4]byte{10, 93, 0, byte(i + 1)}), tb: tb, namespace: prefix + name}
		port := "to-" + name
		addNamespace(tb, h.namespace)
		ip(tb, "-n", h.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", n.router)
		ip(tb, "-n", n.router, "link", "set", port, "master", "br0")
		ip(tb, "-n", n.router, "link", "set", port, "up")
		ip(tb, "-n", h.namespace, "address", "add", h.Addr.String()+"/24", "dev", "eth0")
		ip(tb, "-n", h.namespace, "link", "set", "eth0", "up")
		n.hosts[name] = h
	}
	return n
}

// AddLink adds one more Ethernet link between hosts: a device of that name on
// each, with the address; the router only passes frames on.
func (n *Network) AddLink(tb testing.TB, device string, addresses map[string]netip.Prefix) {
	tb.Helper()
	bridge := "br-" + device
	ip(tb, "-n", n.router, "link", "add", bridge, "type", "bridge")
	ip(tb, "-n", n.router, "link", "set", bridge, "up")
	number := 0
	for name, address := range addresses {
		h, port := n.Host(name), fmt.Sprintf("%s%d", device, number)
		number++
		ip(tb, "-n", h.namespace, "link", "add", device, "type", "veth", "peer", "name", port, "netns", n.router)
		ip(tb, "-n", n.router, "link", "set", port, "master", bridge)
		ip(tb, "-n", n.router, "link", "set", port, "up")
		// nodad: no wait for others that may have the address.
		ip(tb, "-n", h.namespace, "address", "add", address.String(), "dev", device, "nodad")
		ip(tb, "-n", h.namespace, "link", "set", device, "up")
	}
}
