package session

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Protocol is the version in key 1 of OPEN and ACCEPT.
const Protocol = 1

// Sizes of frames, in bytes.
const (
	// HeaderSize is the type and the length.
	HeaderSize = 3
	// MaxData is the most data in one DATA frame: large enough to make the
	// cost per frame vanish, small enough for an ACK never to wait long
	// behind it.
	MaxData = 16384
	// MaxFrame is the longest frame: header, offset and MaxData.
	MaxFrame = HeaderSize + offsetSize + MaxData

	offsetSize = 8
	countSize  = 4
	// maxBody bounds a CBOR body: the longest OPEN (device name, line
	// settings and kind at their limits) is below 512.
	maxBody = 1024
)

// Type is the first byte of a frame. Numbers are never reused.
type Type uint8

// The types of frames; see the package comment.
const (
	TypeOpen    Type = 1
	TypeAccept  Type = 2
	TypeData    Type = 3
	TypeAck     Type = 4
	TypeControl Type = 5
	TypeClose   Type = 6
	TypePing    Type = 7
	TypePong    Type = 8
	TypeSkip    Type = 9

	// typeIgnorable is the first type that a receiver skips if it does not
	// know it.
	typeIgnorable Type = 128
)

// String returns the name of the type as the package comment writes it.
func (t Type) String() string {
	names := [...]string{"0", "OPEN", "ACCEPT", "DATA", "ACK", "CONTROL", "CLOSE", "PING", "PONG", "SKIP"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// ErrProtocol is wrapped by every error that is the other side's fault: bytes
// that no correct peer sends. The session cannot go on; CodeProtocol tells
// the peer.
var ErrProtocol = errors.New("the peer does not keep to the protocol")

// Frame is one decoded frame. Payload aliases the decoded buffer.
type Frame struct {
	Type    Type
	Payload []byte
}

// Decode reads the first frame of b. It returns the frame and how many bytes
// of b it takes; size 0 without an error means that b does not hold a whole
// frame yet. An error wraps ErrProtocol: the length cannot be right for the
// type, and what follows cannot be trusted. A frame of a type to be ignored
// is returned like any other; End.Input skips it.
func Decode(b []byte) (f Frame, size int, err error) {
	if len(b) < HeaderSize {
		return Frame{}, 0, nil
	}
	t, length := Type(b[0]), int(binary.BigEndian.Uint16(b[1:]))
	lowest, highest := lengths(t)
	if length < lowest || length > highest {
		return Frame{}, 0, fmt.Errorf("decode frame: %w: %v of %d bytes", ErrProtocol, t, length)
	}
	if len(b) < HeaderSize+length {
		return Frame{}, 0, nil
	}
	return Frame{Type: t, Payload: b[HeaderSize : HeaderSize+length]}, HeaderSize + length, nil
}

// lengths returns the bounds of a type's payload; highest is -1 for a type
// that may not occur.
func lengths(t Type) (lowest, highest int) {
	switch t {
	case TypeOpen, TypeAccept, TypeClose:
		return 1, maxBody
	case TypeData:
		return offsetSize + 1, offsetSize + MaxData
	case TypeControl:
		return offsetSize + 1, offsetSize + maxBody
	case TypeAck, TypePing, TypePong:
		return offsetSize, offsetSize
	case TypeSkip:
		return offsetSize + countSize, offsetSize + countSize
	}
	if t >= typeIgnorable {
		return 0, MaxFrame - HeaderSize
	}
	return 0, -1
}

// appendHeader appends the header of a frame with a payload of length bytes.
func appendHeader(dst []byte, t Type, length int) []byte {
	dst = append(dst, byte(t))
	return binary.BigEndian.AppendUint16(dst, uint16(length))
}

// appendNumber appends a frame whose payload is one number: ACK, PING, PONG.
func appendNumber(dst []byte, t Type, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(dst, t, offsetSize), n)
}

// appendSkip appends a SKIP frame.
func appendSkip(dst []byte, offset uint64, count uint32) []byte {
	dst = appendHeader(dst, TypeSkip, offsetSize+countSize)
	return binary.BigEndian.AppendUint32(appendOffset(dst, offset), count)
}

// split takes the leading offset or token from a payload that Decode has
// found long enough.
func split(payload []byte) (uint64, []byte) {
	return binary.BigEndian.Uint64(payload), payload[offsetSize:]
}
