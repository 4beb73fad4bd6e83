package roster

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
)

// signatureContext keeps record signatures apart from all other statements.
const signatureContext = "serialspan node record v1"

// Signed is a record with a verified signature. It is immutable and safe for
// concurrent use. The zero value holds no record: IsZero reports it, Wire is
// nil, and it compares less than every record.
type Signed struct {
	v *signed
}

type signed struct {
	record Record
	id     identity.NodeID
	wire   []byte
	hash   [sha256.Size]byte
}

// Sign makes the signed record of a node. A nil r.Key is filled in; any other
// must be that of id. IPv4-mapped endpoints are unmapped. The error wraps
// ErrRecord if r breaks a limit.
func Sign(id *identity.Identity, cluster identity.ClusterID, r Record) (Signed, error) {
	r = r.clone()
	if r.Key == nil {
		r.Key = id.Public()
	}
	for i, e := range r.Endpoints {
		r.Endpoints[i] = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
	}
	if err := r.check(); err != nil {
		return Signed{}, fmt.Errorf("sign node record: %w", err)
	}
	if !r.Key.Equal(id.Public()) {
		return Signed{}, fmt.Errorf("sign node record: %w: the identity key is that of another node", ErrRecord)
	}
	body, err := encodeBody(&r)
	if err != nil {
		return Signed{}, fmt.Errorf("sign node record: %w", err)
	}
	wire := append(body, id.Sign(signatureContext, message(cluster, body))...)
	return newSigned(r, wire), nil
}

// Parse reads and verifies the wire form of a record of cluster. It does not
// keep wire. The error wraps ErrRecord or ErrSignature.
func Parse(cluster identity.ClusterID, wire []byte) (Signed, error) {
	if len(wire) > MaxWire || len(wire) <= ed25519.SignatureSize {
		return Signed{}, fmt.Errorf("parse node record: %w: %d bytes, want at most %d and more than %d", ErrRecord, len(wire), MaxWire, ed25519.SignatureSize)
	}
	body, signature := wire[:len(wire)-ed25519.SignatureSize], wire[len(wire)-ed25519.SignatureSize:]
	r, err := decodeBody(body)
	if err != nil {
		return Signed{}, fmt.Errorf("parse node record: %w", err)
	}
	if !identity.Verify(r.Key, signatureContext, message(cluster, body), signature) {
		return Signed{}, fmt.Errorf("parse node record: %w", ErrSignature)
	}
	return newSigned(r, bytes.Clone(wire)), nil
}

// newSigned takes ownership of r's slices and of wire.
func newSigned(r Record, wire []byte) Signed {
	return Signed{&signed{record: r, id: identity.NodeIDOf(r.Key), wire: wire, hash: sha256.Sum256(wire)}}
}

// message returns what the signature covers: cluster ID ‖ body.
func message(cluster identity.ClusterID, body []byte) []byte {
	return slices.Concat(cluster[:], body)
}

// IsZero reports whether s holds no record.
func (s Signed) IsZero() bool { return s.v == nil }

// Record returns a copy of the record.
func (s Signed) Record() Record {
	if s.v == nil {
		return Record{}
	}
	return s.v.record.clone()
}

// Relay reports whether the member offers to pass messages on.
func (s Signed) Relay() bool { return s.v != nil && s.v.record.Relay }

// ID returns the NodeID of the record's identity key.
func (s Signed) ID() identity.NodeID {
	if s.v == nil {
		return identity.NodeID{}
	}
	return s.v.id
}

// Wire returns a copy of the wire form, at most MaxWire bytes.
func (s Signed) Wire() []byte {
	if s.v == nil {
		return nil
	}
	return bytes.Clone(s.v.wire)
}

// Hash returns the SHA-256 of the wire form; equal hashes mean equal records.
func (s Signed) Hash() [sha256.Size]byte {
	if s.v == nil {
		return [sha256.Size]byte{}
	}
	return s.v.hash
}

// Compare orders two records of one node: negative if a is older than b, 0 if
// they are the same bytes, positive if a is newer. Epoch decides, then
// sequence, then the larger hash of the wire form.
func Compare(a, b Signed) int {
	switch {
	case a.v == nil && b.v == nil:
		return 0
	case a.v == nil:
		return -1
	case b.v == nil:
		return 1
	}
	return cmp.Or(
		cmp.Compare(a.v.record.Epoch, b.v.record.Epoch),
		cmp.Compare(a.v.record.Sequence, b.v.record.Sequence),
		bytes.Compare(a.v.hash[:], b.v.hash[:]),
	)
}
