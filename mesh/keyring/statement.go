package keyring

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// MaxStatement bounds a statement's wire form, bytes: a map of 5 pairs
	// (1 + 2 + 6 + 35 + 6 + 35) and the signature (64), with room to grow.
	MaxStatement = 256

	statementVersion = 1
	// signatureContext keeps these signatures apart from all other statements.
	signatureContext = "serialspan key statement v1"
)

// ErrStatement is wrapped by every error of ParseStatement and Statement.Fits.
var ErrStatement = errors.New("not a valid key statement")

// Statement says who made a secret, without the secret. It is immutable; the
// zero value says nothing.
type Statement struct {
	number uint32
	oldest uint32
	hash   [32]byte
	issuer identity.NodeID
	wire   string
}

// statementBody is the CBOR map of a statement; doc.go has the table.
type statementBody struct {
	Version uint64 `cbor:"1,keyasint"`
	Number  uint32 `cbor:"2,keyasint"`
	Hash    []byte `cbor:"3,keyasint"`
	Oldest  uint32 `cbor:"4,keyasint,omitempty"`
	Issuer  []byte `cbor:"5,keyasint"`
}

// SignStatement states that id made secret. oldest is the smallest key number
// that is to be accepted once the secret is in use; 0 leaves that to Accepted.
func SignStatement(id *identity.Identity, secret identity.Secret, oldest uint32) (Statement, error) {
	hash := secret.Hash()
	body, err := encoder.Marshal(statementBody{
		Version: statementVersion, Number: secret.KeyNumber, Hash: hash[:], Oldest: oldest, Issuer: id.Public(),
	})
	if err != nil {
		return Statement{}, fmt.Errorf("sign key statement: %w", err)
	}
	wire := append(body, id.Sign(signatureContext, slices.Concat(secret.Cluster[:], body))...)
	return Statement{number: secret.KeyNumber, oldest: oldest, hash: hash, issuer: id.ID(), wire: string(wire)}, nil
}

// ParseStatement reads and verifies the wire form of a statement of cluster. The
// error wraps ErrStatement.
func ParseStatement(cluster identity.ClusterID, wire []byte) (Statement, error) {
	fail := func(why string) (Statement, error) {
		return Statement{}, fmt.Errorf("parse key statement: %w: %s", ErrStatement, why)
	}
	if len(wire) > MaxStatement || len(wire) <= ed25519.SignatureSize {
		return fail(fmt.Sprintf("%d bytes", len(wire)))
	}
	text, signature := wire[:len(wire)-ed25519.SignatureSize], wire[len(wire)-ed25519.SignatureSize:]
	var body statementBody
	if err := decoder.Unmarshal(text, &body); err != nil {
		return fail(err.Error())
	}
	switch {
	case body.Version != statementVersion:
		return fail(fmt.Sprintf("version %d", body.Version))
	case body.Number == 0 || body.Oldest > body.Number:
		return fail("key number out of range")
	case len(body.Hash) != 32 || len(body.Issuer) != ed25519.PublicKeySize:
		return fail("wrong length of hash or key")
	case !identity.Verify(body.Issuer, signatureContext, slices.Concat(cluster[:], text), signature):
		return fail("the signature does not fit")
	}
	return Statement{
		number: body.Number, oldest: body.Oldest, hash: [32]byte(body.Hash),
		issuer: identity.NodeIDOf(body.Issuer), wire: string(bytes.Clone(wire)),
	}, nil
}

// Fits reports whether the statement is about secret.
func (s Statement) Fits(secret identity.Secret) bool {
	return s.wire != "" && s.number == secret.KeyNumber && s.hash == secret.Hash()
}

// Issuer returns who made the secret.
func (s Statement) Issuer() identity.NodeID { return s.issuer }

// Wire returns a copy of the wire form, at most MaxStatement bytes.
func (s Statement) Wire() []byte { return []byte(s.wire) }

var (
	encoder = canonical.Encoder()
	decoder = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 16, Pairs: 16})
)
