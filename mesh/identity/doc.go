// Package identity holds the values that say who a node is and which cluster
// it belongs to: the Ed25519 identity key and the NodeID hashed from it, the
// mesh address, the cluster secret and the keys derived from that.
//
// It is values and their text forms, plus the two small files that keep them
// (identity_file.go, secret_file.go). It opens no socket, reads no clock and
// starts no goroutine.
//
// Derivations, all with SHA-256 (FIPS 180-4) and HKDF (RFC 5869):
//
//	NodeID       = SHA-256("serialspan node id v1" ‖ 0x00 ‖ Ed25519 public key)[0:16]
//	mesh prefix  = 0xfd ‖ SHA-256("serialspan mesh prefix v1" ‖ 0x00 ‖ cluster ID)[0:7]   (a /64, RFC 4193)
//	mesh address = mesh prefix ‖ NodeID[0:8]
//	join key     = HKDF(key, salt = cluster ID, info = "serialspan join key v1")
//	gossip key   = HKDF(key, salt = cluster ID, info = "serialspan gossip key v1")
//	beacon key   = HKDF(key, salt = cluster ID, info = "serialspan beacon key v1")
//	hand-over key = HKDF(key, salt = cluster ID, info = "serialspan hand-over key v1")
//	secret hash  = SHA-256("serialspan secret hash v1" ‖ 0x00 ‖ text form of the secret)
//
// The text form of a cluster secret is "ssp1" and then, in the alphabet of
// RFC 4648 base32 in lower case without padding:
//
//	cluster ID (16) ‖ key number (4, big endian) ‖ key (32) ‖ checksum (4)
//
// where the checksum is the first four bytes of SHA-256("serialspan secret
// checksum v1" ‖ 0x00 ‖ the 52 bytes before it), so that a mistyped secret is
// told from a wrong one.
package identity
