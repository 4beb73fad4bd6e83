// Package beacon lets agents with the same cluster secret on one link find each
// other without configuration. A beacon says only "a member listens on this
// UDP port of the address that this came from"; who it is and whether it is
// let in is the join handshake's business.
//
// It is not trusted with anything: a beacon that was recorded and is sent again
// suggests an address to try a join handshake with, which then opens or does
// not. Such suggestions are limited in rate and number (machine.go), and an
// address counts only if it is on the link that the beacon came by.
//
// Beacons go out of and come in by sockets of their own, one for each IP
// family, on UDP port 51822, and never touch the mesh's one socket. The groups:
//
//	IPv6  ff12::d370:616e    link-local scope, transient (RFC 4291 section 2.7),
//	                         a group ID for dynamic use (RFC 3307 section 4.3)
//	IPv4  239.255.83.83      local scope (RFC 2365 section 6.1), TTL 1
//
// Nothing is ever sent to a host, so a stranger gets no answer (DESIGN law 10).
// Whoever is on the link sees that agents are there and how often they speak,
// but learns neither secret nor cluster, names, ports or NodeIDs, and cannot
// tell two starts of an agent apart but by address.
//
// Wire layout, 72 bytes always:
//
//	 0 24  random nonce
//	24 48  XChaCha20-Poly1305 over the 32 bytes below; additional data
//	       "serialspan beacon v1"; key: identity.Secret.BeaconKey
//
//	 0  1  protocol version, 1; another one does not open
//	 1  1  zero, ignored: room for growth
//	 2  2  UDP port of the mesh's socket, big endian, not 0
//	 4 16  start: random, for the life of the process; tells our own beacons
//	       from others' and a restarted agent from a repeated beacon
//	20 12  zero, ignored: room for growth
//
// When beacons are sent:
//
//	at start and when links change  at 0, 0.25, 1.25 and 4.25 s
//	then                            every 22.5 to 37.5 s
//	when somebody new is heard      once more, 50 to 300 ms later, at most one a second
//
// Beacon.Run owns the readers of the two sockets and joins them before it
// returns. Machine and the codec are pure: bytes and time in, decisions out.
package beacon
