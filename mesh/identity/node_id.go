package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// NodeIDLen is the length of a NodeID in bytes. 128 bits make a second
// preimage infeasible and keep a relay header within DESIGN's 32 bytes.
const NodeIDLen = 16

// ErrNodeID is wrapped by every error of ParseNodeID.
var ErrNodeID = errors.New("not a NodeID")

// lowerBase32 is RFC 4648 section 6 in lower case without padding: safe in
// host names, file names and shells, and it has no look-alike 0/O or 1/l.
var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NodeID names a member: the truncated hash of its Ed25519 identity key. The
// zero value names nobody. It is comparable and usable as a map key.
type NodeID [NodeIDLen]byte

// NodeIDOf returns the NodeID that belongs to an identity key.
func NodeIDOf(key ed25519.PublicKey) NodeID {
	sum := labelled("serialspan node id v1", key)
	return NodeID(sum[:NodeIDLen])
}

// String returns the 26-character text form.
func (id NodeID) String() string { return lowerBase32.EncodeToString(id[:]) }

// Short returns the first 8 characters of the text form, for tables and logs.
// It identifies among the members of one cluster, it does not authenticate.
func (id NodeID) Short() string { return id.String()[:8] }

// IsZero reports whether id names nobody.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// Compare orders NodeIDs as unsigned big-endian numbers. "The smaller NodeID"
// of a pair, in every tie-break of the mesh, is the one that compares less.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *NodeID) UnmarshalText(text []byte) error {
	parsed, err := ParseNodeID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseNodeID reads the 26-character text form in either case.
func ParseNodeID(s string) (NodeID, error) {
	want := lowerBase32.EncodedLen(NodeIDLen)
	if len(s) != want {
		return NodeID{}, fmt.Errorf("parse NodeID %q: %w: want %d characters, have %d", s, ErrNodeID, want, len(s))
	}
	raw, err := lowerBase32.DecodeString(strings.ToLower(s))
	if err != nil || lowerBase32.EncodeToString(raw) != strings.ToLower(s) {
		return NodeID{}, fmt.Errorf("parse NodeID %q: %w: only the letters a-z and digits 2-7 occur", s, ErrNodeID)
	}
	return NodeID(raw), nil
}

// labelled returns SHA-256(label ‖ 0x00 ‖ data): the label keeps hashes of
// different purposes apart.
func labelled(label string, data []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(data)
	return [sha256.Size]byte(h.Sum(nil))
}
