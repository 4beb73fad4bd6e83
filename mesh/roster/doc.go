// Package roster holds what the members of a cluster say of themselves: signed
// node records, their order, which of them a node keeps, and what to persist.
//
// It is pure: no clock, no socket, no file, no goroutine. It does not know who
// is alive (that is gossip) nor how to reach anyone (that is peering).
//
// # Wire form of a record
//
//	record    = body ‖ signature (64 bytes), at most 450 bytes together
//	body      = CBOR map (RFC 8949), core deterministic encoding (section 4.2.1)
//	signature = Ed25519 by the identity key in the body, in the context
//	            "serialspan node record v1", of cluster ID (16 bytes) ‖ body
//
//	key  value
//	 1   name: text, 1 to 63 bytes
//	 2   identity key: 32 bytes (Ed25519, RFC 8032)
//	 3   WireGuard public key of this start: 32 bytes (X25519, RFC 7748)
//	 4   start: 16 random bytes, one value per process
//	 5   epoch: unsigned, a boot counter kept on disk
//	 6   sequence: unsigned, counts the records of one epoch
//	 7   KubeSpan address: 16 bytes; absent: none
//	 8   endpoints: 1 to 8 byte strings of address ‖ port (big endian), 6 bytes
//	     for IPv4 and 18 for IPv6; absent: none
//	 9   software version: text, 1 to 24 bytes; absent: not told
//	10   relay: true if it passes messages on for others; absent: it does not
//	11   through: the first 2 bytes of the NodeIDs of 1 to 3 relays, best first,
//	     to which it keeps a path open through its router; absent: it keeps none
//
// The largest record of version 1 has 448 bytes: 66 (name) + 2·35 (keys) + 18
// (start) + 2·10 (epoch, sequence) + 18 (KubeSpan) + 154 (endpoints) + 27
// (version) + 2 (relay) + 8 (through) + 1 (map) + 64 (signature). It must fit
// memberlist's 512 bytes of meta, and two of them the 1200 bytes of a join
// datagram.
//
// Further unsigned keys are allowed and ignored: the body is verified and
// passed on byte for byte, so a newer minor version's record survives an older
// member. The cluster ID is signed but not sent: a record of one cluster never
// verifies in another.
//
// # Order
//
// Records of one node are ordered by (epoch, sequence), no clock involved;
// records with equal numbers by the larger SHA-256 of their wire form, so that
// every member keeps the same one whatever the order of arrival.
//
// # Members to persist
//
//	members = "serialspan members 1\n" ‖ { length (2 bytes, big endian) ‖ record }
//
// at most 4096 records. Each record carries its own signature, so the list
// needs no checksum.
package roster
