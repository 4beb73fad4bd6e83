package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
)

// Identity is a node's long-term Ed25519 key. It is immutable and safe for
// concurrent use. It prints its NodeID only. The zero value is not usable; use
// Generate or Load.
type Identity struct {
	private hidden[ed25519.PrivateKey]
	id      NodeID
}

// Generate makes a new identity from the system's random source.
func Generate() (*Identity, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("generate identity: %w", err)
	}
	return FromSeed([ed25519.SeedSize]byte(seed)), nil
}

// FromSeed makes the identity of a 32-byte RFC 8032 private key seed.
func FromSeed(seed [ed25519.SeedSize]byte) *Identity {
	private := ed25519.NewKeyFromSeed(seed[:])
	return &Identity{private: hide(private), id: NodeIDOf(private.Public().(ed25519.PublicKey))}
}

// ID returns the NodeID of the identity.
func (i *Identity) ID() NodeID { return i.id }

// Public returns the public identity key, 32 bytes.
func (i *Identity) Public() ed25519.PublicKey { return i.private.show().Public().(ed25519.PublicKey) }

// String returns a form without the private key, safe for logs.
func (i *Identity) String() string { return "identity " + i.id.String() }

// GoString keeps %#v from printing addresses.
func (i *Identity) GoString() string { return i.String() }

// Private returns the private key, for the TLS certificate of the node.
func (i *Identity) Private() ed25519.PrivateKey { return i.private.show() }

// Sign signs context ‖ 0x00 ‖ message and returns the 64-byte signature. The
// context names the kind of statement, so that a signature made for one kind
// never verifies as another; it must not contain a zero byte.
func (i *Identity) Sign(context string, message []byte) []byte {
	return ed25519.Sign(i.private.show(), signed(context, message))
}

// Verify reports whether signature is key's signature of message in context.
// A key or signature of the wrong length verifies nothing.
func Verify(key ed25519.PublicKey, context string, message, signature []byte) bool {
	if len(key) != ed25519.PublicKeySize || len(signature) != ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(key, signed(context, message), signature)
}

func signed(context string, message []byte) []byte {
	buf := make([]byte, 0, len(context)+1+len(message))
	buf = append(buf, context...)
	buf = append(buf, 0)
	return append(buf, message...)
}
