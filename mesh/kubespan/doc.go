// Package kubespan reads KubeSpan, the WireGuard mesh between the nodes of a
// Talos cluster: whether this host is in one, our address in it, its peers and
// whether they are heard. It never writes to it (DESIGN law 8); it does not
// decide what to do with what it read.
//
// A host is in a KubeSpan when all of these hold, none of which needs a
// privilege:
//
//	the link is named "kubespan"                      a person may name anything so
//	rtnetlink says its kind is "wireguard"            IFLA_LINKINFO, IFLA_INFO_KIND
//	its operational state is up or unknown            WireGuard has no carrier: unknown
//	it has an address fdXX:XXXX:XXXX:XX02::/64        byte 0 = 0xfd, byte 7 = 0x02
//
// The last is Talos's purpose byte for KubeSpan
// (siderolabs/talos pkg/machinery/resources/network/ula.go).
//
// The peers need CAP_NET_ADMIN in the user namespace that owns the network
// namespace. The kernel's answer then holds the node's private key and the
// pre-shared key, which is the secret of the whole Talos cluster: both are
// zeroed as soon as the answer is there, no type of this package has a place
// for them, and no text of the library that read them goes into an error.
//
// Whether a peer lives is judged from changes on our monotonic clock, because
// WireGuard's time of the last handshake is wall clock: heard means that the
// handshake's time changed or the count of received bytes grew (KubeSpan sends
// keepalives every 25 s, handshakes every 2 minutes).
//
//	         first change                 275 s without one
//	Unknown ──────────────▶ Alive ───────────────────────────▶ Silent
//	   │                      ▲                                   │
//	   └──── 275 s ───────────┼──────────▶ Silent                 │
//	                          └────────── a change ───────────────┘
//
// Reader.Run owns one goroutine besides its own, which waits for rtnetlink
// notifications; Run ends it before it returns.
package kubespan
