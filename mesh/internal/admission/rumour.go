package admission

import (
	"encoding/binary"
	"fmt"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/removal"
)

// RumourMark begins the rumours, which are flooded among the broadcasts of
// others: no CBOR item begins with it (RFC 8949 section 3.2.1: a break alone is
// no item).
const RumourMark = 0xff

// Kinds of rumours, their second byte. Append only.
const (
	rumourHint    = 1
	rumourRemoval = 2
)

// Hint tells, without a secret, what a member holds: who holds something else
// compares with it. It is worth no more than that: whoever has the gossip key
// can make one up.
//
//	0xff ‖ 1 ‖ NodeID (16) ‖ digest (8) ‖ key number in use (4, big endian)
type Hint struct {
	From   identity.NodeID
	Digest [8]byte // equal on members that hold the same
	Number uint32
}

const hintLen = 2 + identity.NodeIDLen + 8 + 4

// Encode returns the wire form.
func (h Hint) Encode() []byte {
	out := append([]byte{RumourMark, rumourHint}, h.From[:]...)
	out = append(out, h.Digest[:]...)
	return binary.BigEndian.AppendUint32(out, h.Number)
}

// EncodeRemoval returns the rumour of a removal: 0xff ‖ 2 ‖ removal.Statement.
func EncodeRemoval(s removal.Statement) []byte {
	return append([]byte{RumourMark, rumourRemoval}, s.Wire()...)
}

// Rumour is a Hint or a removal, whichever is not nil.
type Rumour struct {
	Hint    *Hint
	Removal *removal.Statement
}

// ParseRumour reads a rumour. The error wraps ErrMessage or
// removal.ErrStatement.
func ParseRumour(cluster identity.ClusterID, wire []byte) (Rumour, error) {
	if len(wire) < 2 || wire[0] != RumourMark {
		return Rumour{}, fmt.Errorf("parse rumour: %w", ErrMessage)
	}
	switch body := wire[2:]; {
	case wire[1] == rumourHint && len(wire) == hintLen:
		return Rumour{Hint: &Hint{
			From:   identity.NodeID(body[:identity.NodeIDLen]),
			Digest: [8]byte(body[identity.NodeIDLen:]),
			Number: binary.BigEndian.Uint32(body[identity.NodeIDLen+8:]),
		}}, nil
	case wire[1] == rumourRemoval:
		s, err := removal.Parse(cluster, body)
		if err != nil {
			return Rumour{}, fmt.Errorf("parse rumour: %w", err)
		}
		return Rumour{Removal: &s}, nil
	}
	return Rumour{}, fmt.Errorf("parse rumour: %w: kind %d, %d bytes", ErrMessage, wire[1], len(wire))
}
