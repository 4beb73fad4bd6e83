package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// What memberlist sends is sealed here and not by memberlist, because rumours
// have to be told from pings before they leave (rumour.go).
//
//	packet   nonce (12) ‖ AES-256-GCM of what memberlist sends; its label is authenticated
//	stream   chunks of: length of what follows (4, big endian) ‖ nonce (12) ‖ AES-256-GCM;
//	         authenticated: label ‖ 1 from who dialed, 2 from who accepted ‖ number of the chunk (8, big endian)
const (
	sealOverhead = 12 + 16
	// maxChunk bounds the plain bytes of a chunk, and with it what a stranger
	// can make us allocate.
	maxChunk = 16 << 10

	fromDialer   = 1
	fromAccepter = 2
)

var errSealed = errors.New("does not open with any gossip key")

// sealer seals with the first of its keys and opens with any. It is safe for
// concurrent use.
type sealer struct {
	label []byte

	mu   sync.Mutex
	keys []cipher.AEAD // replaced as a whole
}

func (s *sealer) set(keys [][32]byte) error {
	if len(keys) == 0 {
		return errors.New("none given")
	}
	var all []cipher.AEAD
	for _, key := range keys {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return err
		}
		all = append(all, aead)
	}
	s.mu.Lock()
	s.keys = all
	s.mu.Unlock()
	return nil
}

func (s *sealer) all() []cipher.AEAD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys
}

// seal appends plain, sealed, to dst.
func (s *sealer) seal(dst, plain, authenticated []byte) []byte {
	return s.all()[0].Seal(dst, nil, plain, authenticated)
}

// open returns what was sealed.
func (s *sealer) open(sealed, authenticated []byte) ([]byte, error) {
	for _, key := range s.all() {
		if plain, err := key.Open(nil, nil, sealed, authenticated); err == nil {
			return plain, nil
		}
	}
	return nil, errSealed
}

// sealedConn seals a stream. It may be read and written by one goroutine each.
type sealedConn struct {
	net.Conn
	*sealer
	in, out direction
	pending []byte // opened and not yet read
}

// direction counts the chunks that went one way.
type direction struct {
	from   byte
	number uint64
}

func newSealedConn(conn net.Conn, s *sealer, dialed bool) *sealedConn {
	c := &sealedConn{Conn: conn, sealer: s, in: direction{from: fromAccepter}, out: direction{from: fromDialer}}
	if !dialed {
		c.in, c.out = c.out, c.in
	}
	return c
}

// next returns what is authenticated with the next chunk.
func (d *direction) next(label []byte) []byte {
	b := append(slices.Clone(label), d.from)
	b = binary.BigEndian.AppendUint64(b, d.number)
	d.number++
	return b
}

// Write seals b and writes it.
func (c *sealedConn) Write(b []byte) (n int, err error) {
	for part := range slices.Chunk(b, maxChunk) {
		chunk := make([]byte, 4, 4+len(part)+sealOverhead)
		binary.BigEndian.PutUint32(chunk, uint32(len(part)+sealOverhead))
		if _, err := c.Conn.Write(c.seal(chunk, part, c.out.next(c.label))); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Read reads what the other side has sealed.
func (c *sealedConn) Read(b []byte) (int, error) {
	for len(c.pending) == 0 {
		var header [4]byte
		if _, err := io.ReadFull(c.Conn, header[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(header[:])
		if size < sealOverhead || size > maxChunk+sealOverhead {
			return 0, fmt.Errorf("read gossip stream: chunk of %d bytes", size)
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(c.Conn, chunk); err != nil {
			return 0, err
		}
		var err error
		if c.pending, err = c.open(chunk, c.in.next(c.label)); err != nil {
			return 0, fmt.Errorf("read gossip stream: %w", err)
		}
	}
	n := copy(b, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}
