// Package registrysync keeps a registry in step with those of the other
// members: it broadcasts what changes here, and compares digests over streams,
// because broadcasts get lost. It knows members by NodeID and nothing of how
// streams and broadcasts travel.
//
// It compares at the start, with new members, when a hint tells of a list that
// was too large to broadcast, with a member whose digest is told to be another,
// and every interval with a random member. What is learned by comparing is broadcast if it is little: so the devices of a
// node that has just started, and news after a partition, reach all at once.
//
// One exchange on a stream takes turns, so neither side has to read while it
// writes. A frame is type (1) ‖ length (4, big endian) ‖ payload:
//
//	initiator → responder   ROOT     32-byte hash of the whole registry
//	responder → initiator   SAME     roots agree: the end
//	                        DIGEST   one row per owner
//	initiator → responder   MESSAGE… what the responder lacks, then DIGEST
//	responder → initiator   MESSAGE… what the initiator lacks, then END
//
// After that both hold the same. A side that sends anything else, or nothing
// for IdleTimeout, is cut off; what it sent before was valid and stays.
//
// New starts nothing. Run owns all goroutines: the loop, one that accepts,
// and at most maxDialed + maxAccepted exchanges; it joins them on return.
package registrysync
