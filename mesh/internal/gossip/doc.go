// Package gossip is the membership of the cluster: who is a member, with which
// node record, and whether it is alive. It also floods small messages to all
// members. It is the only importer of memberlist (SWIM with Lifeguard).
//
// It is not trust: a record is believed because its owner signed it, which
// Config.Verify checks. Liveness, in contrast, is what members say of each other,
// unsigned, protected by the gossip key only.
//
// # How memberlist is used
//
// A member's name is its NodeID, its metadata is its signed node record, so
// record and liveness arrive together. Its address is the mesh address, which
// follows from the NodeID: names never move between addresses, and memberlist's
// rules for that (DeadNodeReclaimTime) have nothing to do. Packets go to the
// plane by NodeID, streams over QUIC, both sealed here with the gossip key
// (seal.go). What memberlist has to tell goes along the overlay (rumour.go)
// instead of to random members. The alive delegate vetoes what is invalid
// (signature, name, address), never what is merely unknown, because a veto stops
// the epidemic at the vetoer. Periodic push/pull is off: Join exchanges the full
// state once, and members compare digests of what they know (repair.go). Nobody
// heals a partition by itself: whoever owns a Gossip calls Join with members
// that are not alive, again and again.
//
// memberlist does not tell its users who is suspect nor whether a member left or
// failed. A member that leaves floods a farewell with the hash of its record;
// who has the farewell of the record in force calls the member left, not dead.
//
// # Frames
//
// What memberlist carries as user messages:
//
//	message   1 ‖ run (8) ‖ counter (4, big endian) ‖ length of name (1) ‖ name ‖ message
//	farewell  2 ‖ NodeID (16) ‖ first 8 bytes of SHA-256 of the node record
//	digest    3 ‖ NodeID of the sender (16) ‖ digest of its members (8) ‖ Config.Digest (8)
//
// run is random per process. A member passes on each message and farewell that
// it has not seen to its neighbours (overlay.go), several in a packet, and spares
// those that told it; a digest goes to one of them. A digest is the XOR, over the members that are alive, of the first 8 bytes of SHA-256(NodeID ‖ first 8
// bytes of SHA-256 of the node record). Unknown first bytes are dropped.
//
// # Goroutines
//
// New starts none. memberlist starts some when it is created and has no way to
// join them: Run shuts it down at the end and does not wait. A goroutine that
// still waits for the answer to a ping ends when that times out, within 20 s
// (four probe intervals), and meets nothing but a closed transport. Config's
// callbacks run on one goroutine of Run's, one at a time, and may call any
// method; except Meta, Verify, Address, Addr and NodeOf, which run on
// memberlist's goroutines with its locks held: they must be quick and must not
// call this package.
package gossip
