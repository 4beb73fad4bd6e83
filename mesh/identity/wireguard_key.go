package identity

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// WireGuardKey is an X25519 public key, as WireGuard's tools print it.
type WireGuardKey [32]byte

// String returns the base64 form that wg(8) uses.
func (k WireGuardKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero reports whether k is no key.
func (k WireGuardKey) IsZero() bool { return k == WireGuardKey{} }

// WireGuardPrivate is an X25519 private key. A node makes a fresh one at every
// start and never writes it down (DESIGN section 6). It prints redacted.
type WireGuardPrivate struct {
	key hidden[*ecdh.PrivateKey]
}

// NewWireGuardPrivate makes a key from the system's random source.
func NewWireGuardPrivate() (WireGuardPrivate, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return WireGuardPrivate{}, fmt.Errorf("generate WireGuard key: %w", err)
	}
	return WireGuardPrivate{hide(key)}, nil
}

// WireGuardPrivateFrom returns the key with the given 32 bytes.
func WireGuardPrivateFrom(b [32]byte) (WireGuardPrivate, error) {
	key, err := ecdh.X25519().NewPrivateKey(b[:])
	if err != nil {
		return WireGuardPrivate{}, fmt.Errorf("read WireGuard key: %w", err)
	}
	return WireGuardPrivate{hide(key)}, nil
}

// Public returns the public key.
func (p WireGuardPrivate) Public() WireGuardKey {
	return WireGuardKey(p.key.show().PublicKey().Bytes())
}

// Bytes returns the private key's 32 bytes.
func (p WireGuardPrivate) Bytes() [32]byte { return [32]byte(p.key.show().Bytes()) }

// String keeps the key out of logs.
func (p WireGuardPrivate) String() string { return "WireGuard private key (redacted)" }

// GoString keeps the key out of %#v.
func (p WireGuardPrivate) GoString() string { return p.String() }

// SharedSecret returns X25519(p, peer), 32 bytes. It fails for a peer key of
// low order.
func (p WireGuardPrivate) SharedSecret(peer WireGuardKey) ([32]byte, error) {
	pub, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return [32]byte{}, fmt.Errorf("use WireGuard key %s: %w", peer, err)
	}
	secret, err := p.key.show().ECDH(pub)
	if err != nil {
		return [32]byte{}, fmt.Errorf("use WireGuard key %s: %w", peer, err)
	}
	return [32]byte(secret), nil
}
