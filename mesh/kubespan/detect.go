package kubespan

import (
	"fmt"
	"net/netip"
)

// wireGuardKind is what rtnetlink calls a WireGuard link of the kernel. Nothing
// changes it but the linker, for a lab whose kernel has no WireGuard:
// -X …/mesh/kubespan.wireGuardKind=tun.
var wireGuardKind = "wireguard"

// Operational states, RFC 2863 section 3.1.14 as in linux/if.h.
const (
	operUnknown = 0
	operDown    = 2
	operUp      = 6
)

// link is what rtnetlink says of a network interface.
type link struct {
	index int
	name  string
	kind  string // empty for hardware
	mtu   int
	oper  uint8
}

// detect judges a link and the addresses on it; kind is what a KubeSpan's link
// has to be.
func detect(l link, kind string, addrs []netip.Prefix) State {
	s := State{Link: l.index, MTU: l.mtu}
	switch {
	case l.kind == "":
		s.Why = fmt.Sprintf("link %s is hardware, not %s", l.name, kind)
		return s
	case l.kind != kind:
		s.Why = fmt.Sprintf("link %s is of kind %s, not %s", l.name, l.kind, kind)
		return s
	case l.oper != operUp && l.oper != operUnknown:
		s.Why = fmt.Sprintf("link %s is not up (operational state %d)", l.name, l.oper)
		return s
	}
	for _, p := range addrs {
		if p.Bits() == 64 && IsULA(p.Addr()) {
			s.Present, s.Address, s.Prefix = true, p.Addr(), p.Masked()
			return s
		}
	}
	s.Why = fmt.Sprintf("link %s has no address fdXX:XXXX:XXXX:XX02::/64 (it has %d others)", l.name, len(addrs))
	return s
}
