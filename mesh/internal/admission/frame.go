package admission

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/removal"
)

const (
	// Version is the version of the messages that this package speaks.
	Version = 1

	// MaxFrame bounds a frame without its length, bytes: 2048 removals of 256
	// bytes and their framing are 0.6 MB.
	MaxFrame = 1 << 20
	// maxKeys bounds the keys of a Hello or a Gift.
	maxKeys = 64

	nonceLen = 16
	tagLen   = 8
)

// Type tells the frames apart. Append only.
type Type byte

// The types of frames.
const (
	TypeHello Type = 1
	TypeProof Type = 2
	TypeGift  Type = 3
)

var (
	// ErrMessage is wrapped by every error for bytes that no correct member
	// sends.
	ErrMessage = errors.New("not a valid admission message")
	// ErrVersion means that the other side speaks another version.
	ErrVersion = errors.New("another version of the admission protocol; update the older node")
)

// KeyTag names a secret without revealing it.
type KeyTag struct {
	Number uint32       `cbor:"1,keyasint"`
	Tag    [tagLen]byte `cbor:"2,keyasint"`
	InUse  bool         `cbor:"3,keyasint,omitempty"`
}

// Hello says what a member holds.
type Hello struct {
	Version  uint64         `cbor:"1,keyasint"`
	Nonce    [nonceLen]byte `cbor:"2,keyasint"`
	Keys     []KeyTag       `cbor:"3,keyasint"`
	Removals [32]byte       `cbor:"4,keyasint"`
}

// Proof shows that its sender holds the secret in common.
type Proof struct {
	MAC [32]byte `cbor:"1,keyasint"`
}

// GiftKey is a secret that the receiver lacks.
type GiftKey struct {
	Secret    string `cbor:"1,keyasint"` // identity.Secret.Text
	Statement []byte `cbor:"2,keyasint"` // keyring.Statement
	InUse     bool   `cbor:"3,keyasint,omitempty"`
}

// Gift is what the receiver lacks. It must reach nobody but who has proven to
// hold a secret that is accepted.
type Gift struct {
	Keys     []GiftKey `cbor:"1,keyasint,omitempty"`
	Removals [][]byte  `cbor:"2,keyasint,omitempty"`
}

// String keeps the secrets out of logs.
func (g Gift) String() string {
	return fmt.Sprintf("gift of %d keys, %d removals", len(g.Keys), len(g.Removals))
}

// GoString keeps the secrets out of %#v.
func (g Gift) GoString() string { return g.String() }

// ReadFrame reads a frame and returns it without its length. The error is that
// of r, or wraps ErrMessage.
func ReadFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > MaxFrame {
		return nil, fmt.Errorf("read frame: %w: %d bytes", ErrMessage, n)
	}
	// Grows with what comes, not with what is announced.
	frame, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(frame) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return frame, nil
}

// Append appends a frame with a Hello, Proof or Gift to dst.
func Append[M Hello | Proof | Gift](dst []byte, message M) ([]byte, error) {
	body, err := encoder.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode admission message: %w", err)
	}
	if len(body)+1 > MaxFrame {
		return nil, fmt.Errorf("encode admission message: %w: %d bytes", ErrMessage, len(body))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)+1))
	return append(append(dst, byte(typeOf[M]())), body...), nil
}

func typeOf[M Hello | Proof | Gift]() Type {
	switch any(*new(M)).(type) {
	case Hello:
		return TypeHello
	case Proof:
		return TypeProof
	}
	return TypeGift
}

// Parse reads a frame without its length as a Hello, Proof or Gift. The error
// wraps ErrMessage or ErrVersion.
func Parse[M Hello | Proof | Gift](frame []byte) (message M, err error) {
	if len(frame) == 0 || len(frame) > MaxFrame || Type(frame[0]) != typeOf[M]() {
		return message, fmt.Errorf("parse admission message: %w: unexpected type", ErrMessage)
	}
	if Type(frame[0]) == TypeHello {
		var head struct {
			Version uint64 `cbor:"1,keyasint"`
		}
		if decoder.Unmarshal(frame[1:], &head) == nil && head.Version != Version {
			return message, fmt.Errorf("parse admission message: %w (here %d, there %d)", ErrVersion, Version, head.Version)
		}
	}
	if err := decoder.Unmarshal(frame[1:], &message); err != nil {
		return *new(M), fmt.Errorf("parse admission message: %w: %v", ErrMessage, err)
	}
	if err := check(message); err != nil {
		return *new(M), fmt.Errorf("parse admission message: %w: %v", ErrMessage, err)
	}
	return message, nil
}

func check(message any) error {
	switch m := message.(type) {
	case Hello:
		if len(m.Keys) == 0 || len(m.Keys) > maxKeys {
			return fmt.Errorf("%d keys", len(m.Keys))
		}
	case Gift:
		if len(m.Keys) > maxKeys || len(m.Removals) > removal.MaxStatements {
			return fmt.Errorf("%d keys, %d removals", len(m.Keys), len(m.Removals))
		}
		for _, k := range m.Keys {
			if len(k.Statement) > keyring.MaxStatement {
				return fmt.Errorf("a statement of %d bytes", len(k.Statement))
			}
		}
	}
	return nil
}

var (
	encoder = canonical.Encoder()
	decoder = canonical.Decoder(canonical.Limits{Levels: 5, Elements: removal.MaxStatements, Pairs: 16})
)
