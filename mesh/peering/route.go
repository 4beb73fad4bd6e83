package peering

import "net/netip"

// Route is a way to a member. The zero value is no route. It is comparable.
type Route struct {
	Remote netip.AddrPort // where to send
	Local  netip.Addr     // which of our addresses to send from; invalid: any
}

// IsZero reports whether r is no route.
func (r Route) IsZero() bool { return !r.Remote.IsValid() }

// String names the route for people: the remote address and port.
func (r Route) String() string {
	if r.IsZero() {
		return "none"
	}
	return r.Remote.String()
}
