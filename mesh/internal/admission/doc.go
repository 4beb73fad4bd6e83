// Package admission is what two members say to each other about who belongs to
// the cluster: they compare their cluster secrets and the removals that they
// know, prove that they hold a secret in common, and give each other what is
// missing. It is pure: bytes in, bytes out. Package mesh carries the messages on
// an authenticated stream between the two, never by gossip.
//
// # Exchange
//
//	dialer                              accepter
//	  Hello ───────────────────────────▶
//	        ◀───────────────────────── Hello
//	        ◀───────────────────────── Proof
//	  Proof, Gift ─────────────────────▶
//	        ◀───────────────────── Gift, Hello    what it holds now
//	  Hello ───────────────────────────▶          the same
//
// The secret in common is the newest one in both Hellos, which name accepted
// secrets only. Without one there is no Proof: the accepter ends the stream
// after its Hello, and both know from the two which of them is too old. A Gift has
// the secrets that the other's Hello lacks, and all removals if the two digests
// differ.
//
// Proof is HMAC-SHA-256 with the key identity.Secret.HandOverKey of the secret in
// common, over role ("dialer" or "accepter") ‖ 0x00 ‖ SHA-256("serialspan
// hand-over v1" ‖ 0x00 ‖ NodeID of the dialer ‖ NodeID of the accepter ‖ SHA-256 of
// the dialer's Hello ‖ SHA-256 of the accepter's first Hello), each from its type
// byte on.
//
// # Frames
//
// Length of what follows (4 bytes, big endian, at most 1 MiB) ‖ type (1 byte) ‖
// CBOR map (RFC 8949 section 4.2.1) with integer keys. Unknown keys are ignored;
// a Hello of another version ends the exchange.
//
//	1 Hello  1 version, 1 · 2 nonce, 16 bytes · 3 keys, newest first: maps of
//	         1 number, 2 first 8 bytes of identity.Secret.Hash, 3 true: in use
//	         · 4 removal.Set.Digest, 32 bytes
//	2 Proof  1 MAC, 32 bytes
//	3 Gift   1 keys: maps of 1 identity.Secret.Text, 2 keyring.Statement, 3 true:
//	         in use · 2 removals: removal.Statement each
package admission
