package mesh

import (
	"net"
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/mesh/roster"
)

// interfaceAddresses returns the unicast addresses of the interfaces that are
// up: no loopback, no link-local ones (they need a zone that means nothing on
// another host), and none of point-to-point links, which are tunnels.
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
	add := func(e netip.AddrPort) {
		if e.IsValid() && !slices.Contains(all, e) && len(all) < roster.MaxEndpoints {
			all = append(all, e)
		}
	}
	for _, e := range advertise {
		add(e)
	}
	if !listen.Addr().IsUnspecified() {
		add(listen)
	} else {
		for _, a := range own {
			add(netip.AddrPortFrom(a, listen.Port()))
		}
	}
	for _, e := range seen {
		add(e)
	}
	return all
}
