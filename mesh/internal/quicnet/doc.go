// Package quicnet gives streams between members: Dial a member by NodeID and a
// protocol by name, Accept streams of a protocol. It is the only importer of
// quic-go.
//
// It is not about paths, reachability or liveness: datagrams go to a
// net.PacketConn addressed by member (the plane), and whoever notices that a
// path came back after an outage calls Renew.
//
// # Connections
//
// Members share one QUIC connection (RFC 9000), made when the first stream is
// wanted. Each side shows a certificate self-signed by its Ed25519 identity
// key; VerifyConnection compares the NodeID of that key with the NodeID of the
// plane address, and nothing else: no dates, no names, no authorities, no
// session tickets, no 0-RTT. So a clock in 1970 or 2100 changes nothing.
//
// Two numbers decide which connection of a pair stays:
//
//   - the instance: 16 random bytes per process, the serial number of its
//     certificate. A connection from another instance of a peer means that the
//     peer has restarted: everything older is closed.
//   - the round: a counter per pair, carried in the server name of the TLS
//     ClientHello as "<round>-<floor>-<tag>" in hexadecimal. A dialer takes one
//     more than the highest round it knows; floor says that it has given up
//     every connection with a smaller round. tag is four bytes of the instance
//     of the peer that the floor is about; another instance, whose rounds have
//     begun anew, ignores the floor.
//
// Among live connections to one instance the highest round is used for new
// streams; of equal rounds (both have dialed at once) that dialed by the
// smaller NodeID. Both sides decide alike, whatever arrives first. The other
// connection drains: its streams go on until they are closed. Connections below
// the peer's floor are closed at once.
//
// A peer that restarts answers packets of its former connections with stateless
// resets (RFC 9000 section 10.3); their key is derived from the identity, so it
// survives the restart.
//
// # Streams
//
// The dialer writes a header of 32 bytes: the length of the protocol name (1 to
// 31), the name, zeros. The acceptor consumes it. The padding makes the first
// packet of a stream longer than the 42 bytes below which nobody answers with a
// stateless reset. Codes of stream resets and connection closes are in
// errors.go; they are numbered and append-only.
//
// # Goroutines
//
// New starts none. Run owns the transport, the listener, two goroutines per
// connection, one per stream whose header is still to come and one per
// connection attempt; it closes and joins them before it returns. Everything
// runs under testing/synctest.
package quicnet
