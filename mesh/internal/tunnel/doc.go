// Package tunnel is WireGuard inside the process: wireguard-go between a Bind
// of ours below and a datagram endpoint of ours above. There is no kernel
// interface, no route and no TCP/IP stack (DESIGN section 6).
//
//	Send ─▶ endpoint (tun.Device) ─▶ wireguard-go ─▶ bind ─▶ the node's UDP socket
//	Deliver ◀─ endpoint ◀───────────── wireguard-go ◀─ bind ◀─┘
//	       ▲                                          ├─▶ Control: datagrams that are not WireGuard's
//	       └───────── bare datagrams (KubeSpan) ──────┘
//
// It is the only importer of wireguard-go. It does not choose paths: each peer
// has one fixed virtual endpoint "node:<NodeID>", wireguard-go's roaming is
// off, and the bind sends where SetRoute says: by the path, or back the way that
// a probe just came. Without a route, data is dropped and counted and the newest
// handshake initiation is held. On a route through a KubeSpan datagrams go bare,
// without WireGuard (TypeBare).
//
// # Handshakes
//
// Of a pair, only the smaller NodeID initiates; simultaneous initiations
// destroy each other and cost WireGuard's 5 s (measured). The larger one asks
// by a probe (Config.Handshaking) and initiates itself only after 2 s. A held
// initiation leaves as soon as there is a route and is repeated byte for byte
// after 0.1, 0.3, 0.9 and 2.7 s until the response comes; a responder answers
// a repeat with the response it stored, because wireguard-go takes a repeat
// for a replay. The stored response goes to the peer's route, never to where
// the repeat came from.
//
// # A clock that goes back
//
// A responder takes no initiation whose timestamp is not newer than the last
// one from that key. So each initiation's wall time is compared with that of
// the last to the same peer; if it is not newer, the initiation is dropped and
// Config.KeyBurnt asks for a new key, whose time line is empty.
//
// wireguard-go has one more thing by the wall clock, the end of a load, until
// which it wants cookies. After a step back it wants them for years; the bind
// then gives them itself (cookies).
//
// # Inside
//
// What wireguard-go carries are IPv6/UDP packets between mesh addresses, port
// 51821 on both sides, UDP checksum zero (RFC 6935: the tunnel authenticates
// every bit). The payload begins with a kind byte that the plane defines.
//
// # Goroutines
//
// Run makes the device, owns the repeat loop, and closes the device before it
// returns; wireguard-go's own goroutines end with the device. The callbacks of
// Config run on those goroutines and must not block.
package tunnel
