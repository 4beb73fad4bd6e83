// Package removal is the signed statements that a node is no member any more.
// They only ever add up: no statement takes one back, and a node once removed
// needs a new identity to return. It is pure: no files, no network, no clock.
//
// Whose statements count is not decided here: each member honours those of the
// nodes that its own configuration calls administrators, and its own.
//
// A statement:
//
//	CBOR map (RFC 8949 section 4.2.1) ‖ Ed25519 signature (64), at most 256 bytes
//	 1  version, 1
//	 2  NodeID of who is removed, 16 bytes
//	 3  public identity key of who says so, 32 bytes
//	 4  name of the removed node, for people, at most 63 bytes; may be absent
//
// The signature is over cluster ID ‖ map in the context "serialspan removal v1".
// Unknown keys are ignored. Marshal's text, for a file, is one statement per line
// in hexadecimal digits; '#' begins a comment.
package removal
