package kubespan

import (
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
)

// State is what was read of KubeSpan at one moment. It is a snapshot: nothing
// changes it later, and what its slices hold must not be changed. The zero
// value says that nothing was read yet.
type State struct {
	Present bool         // this host is in a KubeSpan that is up
	Address netip.Addr   // our address in it; zero unless Present
	Prefix  netip.Prefix // its /64: that of the Talos cluster
	Link    int          // interface index, also of a link that did not qualify; 0: no link
	MTU     int          // bytes of an IP packet; UDP over IPv6 holds 48 fewer

	// Rule reports whether Talos's routing rule (fwmark 0x40/0x60 to table
	// 180) is in force: packets for peers' node addresses are forced into the
	// link by it. For diagnosis.
	Rule bool

	// Forced reports whether that rule does lead into the link: table 180 has its
	// route. For diagnosis.
	Forced bool

	Privileged bool   // the peers could be read
	Peers      []Peer // sorted by Address, then PublicKey

	// Why says, for a person, why KubeSpan is not present, why its peers could
	// not be read, or why all this may be old; empty when all is well.
	Why string
}

// Peer is another node of the KubeSpan.
type Peer struct {
	PublicKey     identity.WireGuardKey // Talos's, no key of ours
	Address       netip.Addr            // its address in the KubeSpan; zero: none seen
	Endpoint      netip.AddrPort        // where WireGuard sends to now; zero: none known
	NodeAddresses []netip.Prefix        // its other allowed IPs, sorted: node addresses, perhaps pod networks
	// Tunnel is the link by which its endpoint is reached if that is a tunnel, the
	// KubeSpan itself perhaps: that does not work, or is a tunnel in a tunnel.
	Tunnel  string
	Alive   Liveness
	RxBytes uint64 // since the peer was configured
	TxBytes uint64
}

// Liveness says whether a peer is heard.
type Liveness int

const (
	// Unknown: not watched for long enough.
	Unknown Liveness = iota
	// Alive: heard within the last 275 s.
	Alive
	// Silent: watched for 275 s or longer and not heard within them.
	Silent
)

// String returns "unknown", "alive" or "silent".
func (l Liveness) String() string {
	switch l {
	case Alive:
		return "alive"
	case Silent:
		return "silent"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler with String.
func (l Liveness) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// InForcedSet reports whether Talos forces packets for this address into the
// KubeSpan: it is within the node addresses of a peer, whether that peer lives
// or not. Addresses of the KubeSpan itself are never in the set, the kernel
// routes them there anyway (Talos 1.13 and later). Without Privileged the set
// is not known and the answer is false. Where the user has set
// allowDownPeerBypass, dead peers are not in the kernel's set but still in this
// one.
func (s State) InForcedSet(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(s.Peers, func(p Peer) bool {
		return slices.ContainsFunc(p.NodeAddresses, func(n netip.Prefix) bool { return n.Contains(addr) })
	})
}

// sameBut reports whether two states differ in nothing but counters.
func (s State) sameBut(o State) bool {
	return s.Present == o.Present && s.Address == o.Address && s.Prefix == o.Prefix && s.Link == o.Link &&
		s.MTU == o.MTU && s.Rule == o.Rule && s.Forced == o.Forced && s.Privileged == o.Privileged && s.Why == o.Why &&
		slices.EqualFunc(s.Peers, o.Peers, func(a, b Peer) bool {
			return a.PublicKey == b.PublicKey && a.Address == b.Address && a.Endpoint == b.Endpoint && a.Tunnel == b.Tunnel &&
				a.Alive == b.Alive && slices.Equal(a.NodeAddresses, b.NodeAddresses)
		})
}

// IsULA reports whether an address is of a KubeSpan, this host's or another:
// 0xfd first, Talos's purpose byte 0x02 in place 7.
func IsULA(a netip.Addr) bool {
	b := a.As16()
	return a.Is6() && b[0] == 0xfd && b[7] == 0x02
}
