// Package registry knows the cluster's devices by name: it merges what their
// owners say of them, decides which device has a name that several claim, and
// resolves names for people and programs.
//
// It does no input or output and starts no goroutine; package registrysync
// carries its messages between members. Time is handed in as a duration since
// process start on the monotonic clock; nothing here reads a clock.
//
// # Messages
//
// Everything an owner says is a message that it signed and that anyone may
// verify, keep and pass on:
//
//	kind (1) ‖ CBOR body ‖ Ed25519 signature (64)
//
// Kind 1 is an entry (one device, at most 1000 bytes), 2 a list (the names and
// versions of all devices of an owner), 3 a hint (a list exists that was too
// large to broadcast). Kinds from 128 are ignored, for room to grow. The
// signature, in a context of its own for each kind, covers cluster ID ‖ body.
// Bodies are maps with integer keys in core deterministic encoding (RFC 8949
// section 4.2.1); unknown keys are kept and passed on.
//
//	all     1 owner's identity key (32 bytes)   2 epoch   3 sequence
//	entry   4 name  5 claim  6 hardware {1 vid 2 pid 3 serial 4 interface 5 port 6 path}
//	        7 kind  8 profile  9 capabilities  10 line settings  11 labels
//	        12 state  13 user (NodeID)  14 detail  15 keeps the name
//	list    4 [[name, epoch, sequence], ...] sorted by name
//
// # Merge
//
// A version is (epoch, sequence), from one counter per owner that its entries
// and lists share. Of two messages about the same thing the larger version
// stays, of equal versions the one whose wire form has the larger SHA-256.
// With the owner's newest list L, an entry e is live if and only if
//
//	L.version < e.version   or   L contains exactly (e.name, e.version)
//
// and what is not live is dropped. What L names in another version than the one
// here stays known until that arrives, so that no device loses its name between
// two messages; it is no part of the state that replicas compare, and holds no
// name against a better claim.
//
// So an owner adds and changes devices by an entry alone and removes them by a
// list. For owners that follow the rules the merge is commutative, associative
// and idempotent; for others (two machines with one identity) digest sync still
// makes any two replicas equal. Nobody can touch what another owner said.
//
// # Who has a name
//
// An owner that publishes a name for the first time claims it with 1 + the
// highest claim that it knows of, and keeps that number for good. The name
// belongs to one of the devices whose owner is alive and which are not known
// to be away for longer than hold: to the one of the lowest (claim, NodeID),
// except that a device which had the name when its session began keeps it
// until the session ends. The owner says so itself (key 15), so that all
// members agree. The other devices of that name are in conflict and reachable
// as name@node.
package registry
