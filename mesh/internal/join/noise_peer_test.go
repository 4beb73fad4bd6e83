package join_test

import (
	"bytes"
	"testing"

	"github.com/flynn/noise"
	"github.com/fxamacker/cbor/v2"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
)

// noisePeer speaks the wire format from its description in doc.go, without the
// package: what it sends can be wrong in ways a Machine never is.
type noisePeer struct {
	t     testing.TB
	state *noise.HandshakeState
	id    []byte
}

func newNoisePeer(t testing.TB, secret identity.Secret, private identity.WireGuardPrivate, initiator bool) *noisePeer {
	t.Helper()
	psk, static, public := secret.JoinKey(), private.Bytes(), private.Public()
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s),
		Pattern:     noise.HandshakeXX, Initiator: initiator,
		Prologue:     append([]byte("serialspan join v1"), secret.Cluster[:]...),
		PresharedKey: psk[:], StaticKeypair: noise.DHKey{Private: static[:], Public: public[:]},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &noisePeer{t: t, state: state, id: []byte{0xa, 0xb, 0xc, 0xd}}
}

func (p *noisePeer) write(head, payload []byte) []byte {
	p.t.Helper()
	message, _, _, err := p.state.WriteMessage(nil, payload)
	if err != nil {
		p.t.Fatal(err)
	}
	return append(bytes.Clone(head), message...)
}

func (p *noisePeer) read(message []byte) map[uint64]any {
	p.t.Helper()
	payload, _, _, err := p.state.ReadMessage(nil, message)
	if err != nil {
		p.t.Fatal(err)
	}
	var m map[uint64]any
	if _, err := cbor.UnmarshalFirst(payload, &m); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// first makes a message 1 with any payload of up to 1147 bytes.
func (p *noisePeer) first(payload []byte) []byte {
	p.t.Helper()
	padded := make([]byte, join.FirstLen-1-4-32-16)
	copy(padded, payload)
	return p.write(append([]byte{5}, p.id...), padded)
}

// second answers a message 1 with any payload.
func (p *noisePeer) second(first, payload []byte) []byte {
	p.t.Helper()
	p.read(first[5:])
	return p.write(append(append([]byte{6}, first[1:5]...), p.id...), payload)
}

// third answers a message 2 with any payload.
func (p *noisePeer) third(second, payload []byte) []byte {
	p.t.Helper()
	p.read(second[9:])
	return p.write(append([]byte{7}, second[5:9]...), payload)
}

func encode(t testing.TB, m map[uint64]any) []byte {
	t.Helper()
	data, err := cbor.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
