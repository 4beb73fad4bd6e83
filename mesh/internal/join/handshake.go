package join

import (
	"bytes"
	"fmt"

	"github.com/flynn/noise"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	prologueLabel = "serialspan join v1"

	keyLen = 32 // X25519
	tagLen = 16 // Poly1305
)

// handshake is one Noise handshake together with what it was made of. A
// message that fails to open may leave a noise.HandshakeState useless, so that
// anyone who can inject a datagram could end a handshake; again makes it anew.
type handshake struct {
	config    noise.Config
	ephemeral [keyLen]byte
	first     []byte // the member's side: message 1 as received
	payload   []byte // of our first message: payload 1 or 2
	state     *noise.HandshakeState
	failures  int
}

// newHandshake makes the state before the first message. The ephemeral key is
// used for our first message; it must be random and used once.
func newHandshake(cluster identity.ClusterID, psk [32]byte, private identity.WireGuardPrivate, initiator bool, ephemeral [keyLen]byte) (*handshake, error) {
	static, public := private.Bytes(), private.Public()
	h := &handshake{ephemeral: ephemeral, config: noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s),
		Pattern:       noise.HandshakeXX,
		Initiator:     initiator,
		Prologue:      append([]byte(prologueLabel), cluster[:]...),
		PresharedKey:  psk[:],
		StaticKeypair: noise.DHKey{Private: static[:], Public: public[:]},
	}}
	return h, h.reset()
}

// reset goes back to before the first message.
func (h *handshake) reset() (err error) {
	h.config.Random = bytes.NewReader(h.ephemeral[:])
	h.state, err = noise.NewHandshakeState(h.config)
	if err != nil {
		return fmt.Errorf("make join handshake: %w", err)
	}
	return nil
}

// begin makes message 1 (the joiner's side).
func (h *handshake) begin(payload []byte) ([]byte, error) {
	h.payload = payload
	return h.write(payload)
}

// accept opens message 1 (the member's side). It keeps message.
func (h *handshake) accept(message []byte) (payload []byte, err error) {
	h.first = message
	return h.read(message)
}

// answer makes message 2.
func (h *handshake) answer(payload []byte) ([]byte, error) {
	h.payload = payload
	return h.write(payload)
}

// open opens the message that a running handshake waits for. After a failure
// the handshake stands as before; alive is false if it has failed too often.
func (h *handshake) open(message []byte) (payload []byte, alive bool, err error) {
	payload, err = h.read(message)
	if err == nil {
		return payload, true, nil
	}
	h.failures++
	return nil, h.failures < maxFailures && h.again() == nil, err
}

// again repeats the steps up to the message waited for. It is deterministic:
// same inputs, same ephemeral key.
func (h *handshake) again() error {
	if err := h.reset(); err != nil {
		return err
	}
	if h.first != nil {
		if _, err := h.read(h.first); err != nil {
			return err
		}
	}
	_, err := h.write(h.payload)
	return err
}

func (h *handshake) write(payload []byte) ([]byte, error) {
	message, _, _, err := h.state.WriteMessage(nil, payload)
	if err != nil {
		return nil, fmt.Errorf("write join message: %w", err)
	}
	return message, nil
}

func (h *handshake) read(message []byte) ([]byte, error) {
	payload, _, _, err := h.state.ReadMessage(nil, message)
	if err != nil {
		return nil, fmt.Errorf("open join message: %w", err)
	}
	return payload, nil
}

// holds reports whether the peer has proven to hold the private key of key.
func (h *handshake) holds(key identity.WireGuardKey) bool {
	return bytes.Equal(h.state.PeerStatic(), key[:])
}
