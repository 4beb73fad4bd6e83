// Package memtunnel is an in-memory twin of package tunnel: a pass-through that
// stands where WireGuard does, for simulations of more members than one process
// can encrypt for. It seals nothing and has none of wireguard-go's goroutines
// and queues; everything above it is the real code.
//
// What it keeps of WireGuard is what others see of it: the sizes of all
// datagrams, the round trip of a handshake before the first data of its initiator
// and one way more before that of the other side, its repeats, a new handshake for
// a session older than 120 s, no session older than 180 s, and the keepalive 10 s
// after data that nothing answered (white paper, section 6.1). As in package tunnel
// the smaller NodeID of a pair initiates, the larger asks it to by a probe, and a
// peer may be reached through another.
//
// What it leaves out: data carries no number of its session, so in a new handshake
// data of the last one counts as the confirmation.
//
// Datagrams, padded to the sizes of WireGuard's:
//
//	initiation  1 ‖ 0 (3) ‖ NodeID of the sender (16)
//	response    2 ‖ 0 (3) ‖ NodeID of the sender (16)
//	data        4 ‖ 0 (3) ‖ NodeID of the sender (16) ‖ kind (1) ‖ length of payload (2, big endian) ‖ payload
//
// A datagram of type 4 and 32 bytes is a keepalive.
//
// Run owns all goroutines; timers do nothing once it is over.
package memtunnel
