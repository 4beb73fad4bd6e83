package removal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// MaxWire bounds a statement's wire form, bytes: a map of 4 pairs
	// (1 + 2 + 18 + 35 + 66) and the signature (64), with room to grow.
	MaxWire = 256
	// MaxName bounds the removed node's name, bytes.
	MaxName = 63

	version = 1
	// signatureContext keeps these signatures apart from all other statements.
	signatureContext = "serialspan removal v1"
)

// ErrStatement is wrapped by every error of Sign and Parse.
var ErrStatement = errors.New("not a valid removal")

// Statement says that a node is removed, and who says so. It is immutable and
// comparable; the zero value says nothing.
type Statement struct {
	node   identity.NodeID
	issuer identity.NodeID
	name   string
	wire   string
}

// body is the CBOR map of a statement; doc.go has the table.
type body struct {
	Version uint64 `cbor:"1,keyasint"`
	Node    []byte `cbor:"2,keyasint"`
	Issuer  []byte `cbor:"3,keyasint"`
	Name    string `cbor:"4,keyasint,omitempty"`
}

// Sign makes the statement of id that node is removed. The name is for people;
// one that is too long is left out.
func Sign(id *identity.Identity, cluster identity.ClusterID, node identity.NodeID, name string) (Statement, error) {
	if node.IsZero() || node == id.ID() {
		return Statement{}, fmt.Errorf("sign removal: %w: a node removes another one", ErrStatement)
	}
	if len(name) > MaxName || !utf8.ValidString(name) {
		name = ""
	}
	text, err := encoder.Marshal(body{Version: version, Node: node[:], Issuer: id.Public(), Name: name})
	if err != nil {
		return Statement{}, fmt.Errorf("sign removal: %w", err)
	}
	wire := append(text, id.Sign(signatureContext, slices.Concat(cluster[:], text))...)
	return Statement{node: node, issuer: id.ID(), name: name, wire: string(wire)}, nil
}

// Parse reads and verifies the wire form of a statement of cluster. The error
// wraps ErrStatement.
func Parse(cluster identity.ClusterID, wire []byte) (Statement, error) {
	fail := func(why string) (Statement, error) {
		return Statement{}, fmt.Errorf("parse removal: %w: %s", ErrStatement, why)
	}
	if len(wire) > MaxWire || len(wire) <= ed25519.SignatureSize {
		return fail(fmt.Sprintf("%d bytes", len(wire)))
	}
	text, signature := wire[:len(wire)-ed25519.SignatureSize], wire[len(wire)-ed25519.SignatureSize:]
	var b body
	if err := decoder.Unmarshal(text, &b); err != nil {
		return fail(err.Error())
	}
	switch {
	case b.Version != version:
		return fail(fmt.Sprintf("version %d", b.Version))
	case len(b.Node) != identity.NodeIDLen || len(b.Issuer) != ed25519.PublicKeySize || len(b.Name) > MaxName:
		return fail("a field has the wrong length")
	case !identity.Verify(b.Issuer, signatureContext, slices.Concat(cluster[:], text), signature):
		return fail("the signature does not fit")
	}
	s := Statement{node: identity.NodeID(b.Node), issuer: identity.NodeIDOf(b.Issuer), name: b.Name, wire: string(wire)}
	if s.node == s.issuer || s.node.IsZero() {
		return fail("a node removes another one")
	}
	return s, nil
}

// Node returns who is removed.
func (s Statement) Node() identity.NodeID { return s.node }

// Issuer returns who says so.
func (s Statement) Issuer() identity.NodeID { return s.issuer }

// Name returns the removed node's name, for people; it may be empty.
func (s Statement) Name() string { return s.name }

// Wire returns a copy of the wire form, at most MaxWire bytes.
func (s Statement) Wire() []byte { return []byte(s.wire) }

func (s Statement) hash() [sha256.Size]byte { return sha256.Sum256([]byte(s.wire)) }

var (
	encoder = canonical.Encoder()
	decoder = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 16, Pairs: 16})
)
