package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Types of frames. Append only.
const (
	frameMessage  = 1
	frameFarewell = 2
	frameDigest   = 3
)

// messageHeader is type, run, counter and length of name.
const messageHeader = 1 + 8 + 4 + 1

var errFrame = errors.New("malformed frame")

// message is a frame of type 1.
type message struct {
	run     [8]byte
	counter uint32
	name    string
	body    []byte // aliases the frame it was parsed from
}

func (m message) encode() ([]byte, error) {
	if len(m.name) > MaxName || len(m.body) > MaxMessage {
		return nil, fmt.Errorf("encode message %q: %d bytes of name (limit %d) and %d bytes (limit %d)",
			m.name, len(m.name), MaxName, len(m.body), MaxMessage)
	}
	b := make([]byte, 0, messageHeader+len(m.name)+len(m.body))
	b = append(b, frameMessage)
	b = append(b, m.run[:]...)
	b = binary.BigEndian.AppendUint32(b, m.counter)
	b = append(b, byte(len(m.name)))
	b = append(b, m.name...)
	return append(b, m.body...), nil
}

func parseMessage(b []byte) (message, error) {
	var m message
	if len(b) < messageHeader || b[0] != frameMessage {
		return m, fmt.Errorf("parse message: %w", errFrame)
	}
	copy(m.run[:], b[1:])
	m.counter = binary.BigEndian.Uint32(b[9:])
	name, rest := int(b[13]), b[messageHeader:]
	if name > MaxName || name > len(rest) || len(rest)-name > MaxMessage {
		return m, fmt.Errorf("parse message: %w: lengths", errFrame)
	}
	m.name, m.body = string(rest[:name]), rest[name:]
	return m, nil
}

// farewell is a frame of type 2: id leaves, while its record has this hash.
type farewell struct {
	id     identity.NodeID
	record recordHash
}

type recordHash [8]byte

func hashRecord(meta []byte) recordHash {
	sum := sha256.Sum256(meta)
	return recordHash(sum[:8])
}

const farewellSize = 1 + identity.NodeIDLen + 8

func (f farewell) encode() []byte {
	b := make([]byte, 0, farewellSize)
	b = append(b, frameFarewell)
	b = append(b, f.id[:]...)
	return append(b, f.record[:]...)
}

// parseFarewell ignores bytes after the fields: room for growth.
func parseFarewell(b []byte) (farewell, error) {
	var f farewell
	if len(b) < farewellSize || b[0] != frameFarewell {
		return f, fmt.Errorf("parse farewell: %w", errFrame)
	}
	copy(f.id[:], b[1:])
	copy(f.record[:], b[1+identity.NodeIDLen:])
	return f, nil
}

// digest is a frame of type 3: what from knows, and what Config.Digest says.
type digest struct {
	from  identity.NodeID
	sum   [8]byte
	users [8]byte
}

const digestSize = 1 + identity.NodeIDLen + 8 + 8

func (d digest) encode() []byte {
	b := make([]byte, 0, digestSize)
	b = append(b, frameDigest)
	b = append(b, d.from[:]...)
	b = append(b, d.sum[:]...)
	return append(b, d.users[:]...)
}

// parseDigest ignores bytes after the fields: room for growth.
func parseDigest(b []byte) (digest, error) {
	var d digest
	if len(b) < digestSize || b[0] != frameDigest {
		return d, fmt.Errorf("parse digest: %w", errFrame)
	}
	copy(d.from[:], b[1:])
	copy(d.sum[:], b[1+identity.NodeIDLen:])
	copy(d.users[:], b[1+identity.NodeIDLen+8:])
	return d, nil
}

// seen remembers the messages of at least seenFor, and of no more than twice
// that, but at most twice seenLimit of them. Its zero value is ready.
type seen struct {
	young, old map[[16]byte]struct{}
	since      time.Time // of young, monotonic
}

const (
	seenLimit = 2048
	seenFor   = 30 * time.Second
)

// add reports whether the message is new, whoever sent it.
func (s *seen) add(now time.Time, name string, body []byte) bool {
	h := sha256.New()
	h.Write([]byte{byte(len(name))})
	h.Write([]byte(name))
	h.Write(body)
	key := [16]byte(h.Sum(nil))
	switch age := now.Sub(s.since); {
	case age >= 2*seenFor:
		s.old, s.young, s.since = nil, nil, now
	case age >= seenFor:
		s.old, s.young, s.since = s.young, nil, now
	}
	if _, ok := s.young[key]; ok {
		return false
	}
	if _, ok := s.old[key]; ok {
		return false
	}
	if len(s.young) >= seenLimit {
		s.old, s.young, s.since = s.young, nil, now
	}
	if s.young == nil {
		s.young = make(map[[16]byte]struct{})
	}
	s.young[key] = struct{}{}
	return true
}
