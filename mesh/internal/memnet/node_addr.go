package memnet

import (
	"net"

	"github.com/serialspan/serialspan/mesh/identity"
)

// NodeAddr is the address of a member, as the plane's is. It is comparable.
type NodeAddr struct{ ID identity.NodeID }

// Network returns "serialspan".
func (NodeAddr) Network() string { return "serialspan" }

// String returns the NodeID's text.
func (a NodeAddr) String() string { return a.ID.String() }

// AddrOf returns the NodeAddr of a member.
func AddrOf(id identity.NodeID) net.Addr { return NodeAddr{id} }

// NodeOf returns the member of a NodeAddr.
func NodeOf(a net.Addr) (identity.NodeID, bool) {
	n, ok := a.(NodeAddr)
	return n.ID, ok
}
