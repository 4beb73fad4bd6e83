// Package keyring is a member's cluster secrets: the one in use, the one that a
// rotation has handed out and that is not used yet, and older ones that members
// who were away still hold. It decides which of several secrets counts, for how
// long an old one opens the door, and for how long its holder is at least told
// why it does not. It is pure: no files, no network, no clock.
//
// # A rotation
//
//	secret:  offered ──everybody reachable has it──▶ in use ──newer one in use──▶ old
//	age, in key numbers:   0 in use    1, 2 accepted    3, 4 refused by name    5 … unknown
//
// An offered secret opens what others seal with it, and seals nothing yet. The
// newest secret in use seals. Newer means: larger key number, then larger hash
// (identity.Secret.Compare). So two members that rotate at once, or the two
// halves of a partition, end with the same secret wherever their rings meet.
// Merging is commutative, associative and idempotent, as far as the bounds allow.
//
// A secret that is up to Accepted key numbers older than the one in use lets in
// whoever was known as a member while it was in use, and nobody else: members
// that were away come back, but a copy of the old secret makes no new members.
// A statement may say more strictly which key number is the oldest accepted.
// Of secrets older by up to Named more, the ring keeps the join key alone, with
// which a member can be told that its secret is too old. After that the holder
// of such a secret is a stranger and gets no answer (DESIGN law 10).
//
// # Statements
//
// Each secret travels with a signed statement of who made it, so that members
// that have administrators can take new secrets from those alone:
//
//	CBOR map (RFC 8949 section 4.2.1) ‖ Ed25519 signature (64), at most 256 bytes
//	 1  version, 1
//	 2  key number
//	 3  identity.Secret.Hash, 32 bytes
//	 4  oldest key number accepted once it is in use; absent or 0: see Accepted
//	 5  public identity key of who made it, 32 bytes
//
// The signature is over cluster ID ‖ map in the context "serialspan key statement
// v1". Unknown keys are ignored.
//
// # The file
//
// Marshal's text has one item per line; '#' begins a comment:
//
//	key in-use|offered SECRET STATEMENT    the statement in hexadecimal digits
//	named NUMBER JOINKEY                   in hexadecimal digits
//	known NODEID NUMBER                    newest key number under which it was a member
package keyring
