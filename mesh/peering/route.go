package peering

import (
	"net/netip"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Route is a way to a member: straight to an address, through the KubeSpan that
// we share, or through another member that passes messages on. The zero value is
// no route. It is comparable.
type Route struct {
	Remote netip.AddrPort  // where to send; invalid with Via
	Local  netip.Addr      // which of our addresses to send from; invalid: any
	Via    identity.NodeID // the member that relays; zero: none
	// KubeSpan: Remote is the member's address in our KubeSpan, and datagrams
	// need no tunnel of ours.
	KubeSpan bool
}

// rank orders the kinds of route by preference: the lowest is the best.
func (r Route) rank() int {
	switch {
	case r.KubeSpan:
		return 0
	case !r.IsRelay():
		return 1
	}
	return 2
}

// better reports whether r is of a kind preferred to that of other.
func (r Route) better(other Route) bool { return r.rank() < other.rank() }

// IsZero reports whether r is no route.
func (r Route) IsZero() bool { return !r.Remote.IsValid() && r.Via.IsZero() }

// IsRelay reports whether r leads through another member.
func (r Route) IsRelay() bool { return !r.Via.IsZero() }

// same reports whether r and other lead the same way; our own address does not
// count.
func (r Route) same(other Route) bool {
	return r.Remote == other.Remote && r.Via == other.Via && r.KubeSpan == other.KubeSpan
}

// String names the route for people: the remote address and port, or the relay.
func (r Route) String() string {
	switch {
	case r.IsRelay():
		return "via " + r.Via.Short()
	case r.IsZero():
		return "none"
	}
	return r.Remote.String()
}
