package mesh

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/serialspan/serialspan/mesh/roster"
)

// virtual are the beginnings of the names of interfaces on which nobody reaches
// this node from outside: bridges and pairs of containers and virtual machines,
// pod networks, and tunnels of others, KubeSpan's among them.
var virtual = []string{
	"docker", "br-", "veth", "cni", "flannel", "cali", "cilium", "lxc", "kube-", "kubespan", "siderolink",
	"virbr", "vnet", "lxdbr", "podman", "nerdctl", "weave", "tailscale", "wg", "tun", "tap", "zt", "dummy",
}

func isVirtual(name string) bool {
	return slices.ContainsFunc(virtual, func(p string) bool { return strings.HasPrefix(name, p) })
}

// interfaceAddresses returns the unicast addresses of the interfaces that are
// up: no loopback, no link-local ones (they need a zone that means nothing on
// another host), and none of point-to-point or virtual links.
func interfaceAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		if isVirtual(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().IsGlobalUnicast() {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all, nil
}

// endpoints are the addresses that this node says of itself, best first: the
// advertised ones, those of its interfaces, those that others saw.
func endpoints(listen netip.AddrPort, advertise []netip.AddrPort, own []netip.Addr, seen []netip.AddrPort) []netip.AddrPort {
	var all []netip.AddrPort
	add := func(e netip.AddrPort, most int) {
		if e.IsValid() && !slices.Contains(all, e) && len(all) < most {
			all = append(all, e)
		}
	}
	for _, e := range advertise {
		add(e, roster.MaxEndpoints)
	}
	if !listen.Addr().IsUnspecified() {
		add(listen, roster.MaxEndpoints)
	} else {
		for _, a := range own {
			// What others saw is often the only address from outside.
			add(netip.AddrPortFrom(a, listen.Port()), roster.MaxEndpoints-len(seen))
		}
	}
	for _, e := range seen {
		add(e, roster.MaxEndpoints)
	}
	return all
}
