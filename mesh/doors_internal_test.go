package mesh

import (
	"net/netip"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

// TestSeenAcrossARouter tells members that see us at an address of ours, who
// need no path kept open, from those beyond a router.
func TestSeenAcrossARouter(t *testing.T) {
	own, forwarded := netip.MustParseAddr("192.168.1.5"), netip.MustParseAddrPort("203.0.113.1:51821")
	for at, across := range map[string]bool{
		"192.168.1.5:51821":  false,
		"192.168.1.5:40000":  false, // its socket was bound anew
		"[fe80::1]:51821":    false, // on our link
		"127.0.0.1:51821":    false,
		"203.0.113.1:51821":  false, // a forwarded port
		"203.0.113.1:40000":  true,
		"[2001:db8::1]:7":    true,
		"198.51.100.1:51821": true,
	} {
		d := doors{addrs: []netip.Addr{own}, across: map[identity.NodeID]bool{{1}: !across}, offers: map[identity.NodeID]bool{{1}: true}}
		for _, changed := range []bool{true, false} {
			if d.seen(identity.NodeID{1}, netip.MustParseAddrPort(at), []netip.AddrPort{forwarded}) != changed || d.across[identity.NodeID{1}] != across {
				t.Errorf("seen at %s: across %v", at, d.across)
			}
		}
		if d.forget(identity.NodeID{1}); len(d.across)+len(d.offers) > 0 {
			t.Error("not forgotten")
		}
	}
}
