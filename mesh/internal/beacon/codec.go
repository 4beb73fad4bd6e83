package beacon

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Len is the length of every beacon, bytes.
const Len = chacha20poly1305.NonceSizeX + bodyLen + chacha20poly1305.Overhead

const (
	version   = 1
	bodyLen   = 32
	extraData = "serialspan beacon v1"
)

// Errors of Open.
var (
	// ErrMalformed: it is no beacon, or one that says nonsense.
	ErrMalformed = errors.New("malformed beacon")
	// ErrForeign: it does not open with the key: another cluster's, or an
	// older or newer secret's.
	ErrForeign = errors.New("beacon of another secret")
	// ErrVersion: it opens, but is of a version that this one does not know.
	ErrVersion = errors.New("beacon of another version")
)

// Start tells one run of one agent from all others.
type Start [16]byte

// Hello is what a beacon says.
type Hello struct {
	Port  uint16 // of the mesh's UDP socket; not 0
	Start Start
}

// Seal returns a beacon of Len bytes, no two alike. The key is
// identity.Secret.BeaconKey.
func Seal(key [32]byte, h Hello) ([]byte, error) {
	var nonce [chacha20poly1305.NonceSizeX]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("seal beacon: %w", err)
	}
	return seal(key, nonce, h)
}

func seal(key [32]byte, nonce [chacha20poly1305.NonceSizeX]byte, h Hello) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("seal beacon: %w", err)
	}
	var body [bodyLen]byte
	body[0] = version
	binary.BigEndian.PutUint16(body[2:], h.Port)
	copy(body[4:], h.Start[:])
	out := make([]byte, len(nonce), Len)
	copy(out, nonce[:])
	return aead.Seal(out, nonce[:], body[:], []byte(extraData)), nil
}

// Open reads a beacon. The errors are ErrMalformed, ErrForeign and ErrVersion.
func Open(key [32]byte, datagram []byte) (Hello, error) {
	if len(datagram) != Len {
		return Hello{}, ErrMalformed
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return Hello{}, fmt.Errorf("open beacon: %w", err)
	}
	var buffer [bodyLen]byte
	nonce, sealed := datagram[:chacha20poly1305.NonceSizeX], datagram[chacha20poly1305.NonceSizeX:]
	body, err := aead.Open(buffer[:0], nonce, sealed, []byte(extraData))
	if err != nil {
		return Hello{}, ErrForeign
	}
	h := Hello{Port: binary.BigEndian.Uint16(body[2:]), Start: Start(body[4:20])}
	switch {
	case body[0] != version:
		return Hello{}, ErrVersion
	case h.Port == 0:
		return Hello{}, ErrMalformed
	}
	return h, nil
}
