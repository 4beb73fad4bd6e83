package join

import (
	"bytes"
	"slices"
)

// Use says what a join key is good for.
type Use int

const (
	// UseCurrent: the key in use, or one that is about to be. Whoever holds it
	// may join.
	UseCurrent Use = iota
	// UseOld: of a secret that is not in use any more. Whoever was a member
	// then may join (Config.Known).
	UseOld
	// UseNamed: of a secret that is too old. It opens first messages only to
	// tell their sender so.
	UseNamed
)

// Key is a join key: the pre-shared key of handshakes.
type Key struct {
	Number uint32 // key number of its secret
	PSK    [32]byte
	Use    Use
}

// SetKeys replaces the join keys: the first is the one in use, with which
// handshakes are begun; all of them open first messages. Handshakes under way
// go on with the key that they began with. It panics without a key.
func (m *Machine) SetKeys(keys []Key) {
	if len(keys) == 0 {
		panic("join: no key")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = slices.Clone(keys)
}

// Keys returns how many join keys handshakes can be begun with; see BeginWith.
func (m *Machine) Keys() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, k := range m.keys {
		if k.Use != UseNamed {
			n++
		}
	}
	return n
}

// openFirst opens a first message with the key that fits. Junk costs one try
// for each key; there is more than one only after a rotation.
func (m *Machine) openFirst(message []byte) (h *handshake, key Key, plain []byte, err error) {
	for _, key = range m.keys {
		if h, err = m.newHandshake(false, key); err != nil {
			return nil, key, nil, err
		}
		if plain, err = h.accept(bytes.Clone(message)); err == nil {
			return h, key, plain, nil
		}
	}
	return nil, key, nil, err
}
