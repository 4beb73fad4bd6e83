package agent

import (
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/kubespan"
)

// kubeSpan tells of this machine's KubeSpan, nil where it has none.
func (a *Agent) kubeSpan(s mesh.KubeSpanStatus) *client.KubeSpan {
	if s.Link == 0 {
		return nil
	}
	k := &client.KubeSpan{
		Present: s.Present, Address: s.Address, Link: s.Link, MTU: s.MTU, Rights: "address only", Bypass: "relay",
		Rule: s.Rule, Forced: s.Forced, Detail: s.Why,
	}
	if s.Privileged {
		k.Rights = "NET_ADMIN"
	}
	if s.Marked {
		k.Bypass = "mark"
	}
	names := make(map[netip.Addr]string)
	for _, m := range a.mesh.Members() {
		if !m.Self && m.KubeSpan.IsValid() {
			names[m.KubeSpan] = m.Name
		}
	}
	own := a.mesh.Address(a.mesh.Self())
	for _, p := range s.Peers {
		peer := client.KubeSpanPeer{
			Address: p.Address, Node: names[p.Address], State: p.Alive.String(), Received: p.RxBytes, Sent: p.TxBytes, Tunnel: p.Tunnel,
			Mesh: slices.ContainsFunc(p.NodeAddresses, func(n netip.Prefix) bool { return n.Contains(own) }),
		}
		if p.Endpoint.IsValid() {
			peer.Endpoint, peer.Class = p.Endpoint.String(), classOf(p.Endpoint.String())
		}
		k.Peers = append(k.Peers, peer)
	}
	return k
}

// sharedSpace is that of carriers' NAT, RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// classOf says what kind of address an endpoint "IP:PORT" is, for people: where
// it can be reached from.
func classOf(endpoint string) string {
	e, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return ""
	}
	switch a := e.Addr(); {
	case a.IsLoopback():
		return "loopback"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case kubespan.IsULA(a):
		return "kubespan"
	case a.IsPrivate():
		return "private"
	case sharedSpace.Contains(a):
		return "shared"
	}
	return "public"
}
