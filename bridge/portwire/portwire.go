// Package portwire is what a program and its agent say to each other while the
// program has a device open as a port: bytes, requests and their answers, and
// what happens beside the bytes. It is values and their codec; package client
// speaks it on one side of the control socket, the agent's control server on
// the other. It has nothing to do with the session between agents, which is
// package session: this connection is on one machine, loses nothing and is not
// resumed.
//
// # Wire
//
// Numbers are big endian. Texts are UTF-8 and go to the end of the payload
// unless a length stands before them.
//
//	frame    type (1) | length (2) | payload (length)
//
//	DATA     1   1..16384 bytes                                         both ways
//	WINDOW   2   count (4): its sender takes so many more bytes         both ways
//	REQUEST  3   id (4) | op (1) | argument                             to the agent
//	ANSWER   4   id (4) | code (1) | length (2) | text | next step      to the program
//	STATE    5   flags (1) | mask (1) | on (1) | length (1) | line | note   to the program
//	GAP      6   direction (1) | unknown (1) | lost (8)                 to the program
//	END      7   code (1) | length (2) | text | next step               to the program, last
//
//	op       1 LINE   line settings as text: 9600e71
//	         2 PURGE  bits (1): 1 what came and was not read, 2 what was written and not sent
//	         3 DRAIN
//	         4 MODEM  mask (1) | on (1): modem outputs, bits of line.ModemLines
//	         5 BREAK  length in ms (4)
//	         6 RESET  name of a reset recipe
//
// A type from 128 on that a reader does not know is skipped; an op that it does
// not know is answered as not supported. Code is 0 for done, else a client.Code.
//
// # Order and back-pressure
//
// Requests happen at the device in the order of the frames, after the bytes
// before them; PURGE alone is done at once, and its answer stands where nothing
// of before it follows. A GAP stands in DATA where the bytes are missing, that
// of the direction to the device (2) when it is found out. STATE tells what is
// so now and overtakes bytes.
//
// Nobody sends more DATA than WINDOW frames have allowed, as in SSH channels
// (RFC 4254 section 5.2): so both sides can always read what comes, and bytes
// that nobody takes hold up no request and no answer.
package portwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/serialspan/serialspan/bridge/line"
)

// Type is the first byte of a frame. Numbers are append-only.
type Type uint8

// The types of frames; see the package comment.
const (
	Data    Type = 1
	Window  Type = 2
	Request Type = 3
	Answer  Type = 4
	State   Type = 5
	Gap     Type = 6
	End     Type = 7

	// ignorable is the first type that a reader skips if it does not know it.
	ignorable Type = 128
)

// Op is what a request asks for. Numbers are append-only.
type Op uint8

// The requests; see the package comment.
const (
	OpLine  Op = 1
	OpPurge Op = 2
	OpDrain Op = 3
	OpModem Op = 4
	OpBreak Op = 5
	OpReset Op = 6
)

// Flags of a State.
const (
	// HasModem: the device has modem lines and break.
	HasModem = 1
)

// Directions of a Gap.
const (
	FromDevice = 1
	ToDevice   = 2
)

// Sizes in bytes.
const (
	HeaderSize = 3
	// MaxData is the most bytes in one DATA.
	MaxData = 16384
	// MaxText bounds every text; Append cuts longer ones.
	MaxText = 1024
	// MaxFrame is the longest frame.
	MaxFrame = HeaderSize + MaxData
)

// ErrFormat is wrapped by the errors of Decode: what follows cannot be trusted.
var ErrFormat = errors.New("not a frame of an open port")

// Frame is one frame. Only the fields that its Type names are meant.
type Frame struct {
	Type Type
	Data []byte // DATA; aliases the decoded buffer

	Count uint32 // WINDOW: bytes; REQUEST BREAK: ms
	ID    uint32 // REQUEST, ANSWER
	Op    Op     // REQUEST
	Bits  uint8  // REQUEST PURGE: session's purge bits
	Flags uint8  // STATE
	// Mask and On are the lines meant and those of them that are on, in
	// REQUEST MODEM and STATE.
	Mask, On line.ModemLines

	Code uint8  // ANSWER, END
	Text string // ANSWER, END: the error; REQUEST RESET: the recipe; STATE: a note for people
	Next string // ANSWER, END: what a person can do
	Line string // REQUEST LINE, STATE: line settings, may be empty in STATE

	Direction uint8  // GAP
	Lost      uint64 // GAP: up to how many bytes
	Unknown   bool   // GAP: there may be more
}

// Append appends f to dst. Texts beyond MaxText, data beyond MaxData are cut.
func Append(dst []byte, f Frame) []byte {
	at := len(dst)
	dst = append(dst, byte(f.Type), 0, 0)
	switch f.Type {
	case Data:
		dst = append(dst, f.Data[:min(len(f.Data), MaxData)]...)
	case Window:
		dst = binary.BigEndian.AppendUint32(dst, f.Count)
	case Request:
		dst = appendRequest(binary.BigEndian.AppendUint32(dst, f.ID), f)
	case Answer:
		dst = appendReason(binary.BigEndian.AppendUint32(dst, f.ID), f)
	case State:
		settings := clip(f.Line, 255)
		dst = append(dst, f.Flags, byte(f.Mask), byte(f.On), byte(len(settings)))
		dst = append(append(dst, settings...), clip(f.Text, MaxText)...)
	case Gap:
		dst = binary.BigEndian.AppendUint64(append(dst, f.Direction, flag(f.Unknown)), f.Lost)
	case End:
		dst = appendReason(dst, f)
	}
	binary.BigEndian.PutUint16(dst[at+1:], uint16(len(dst)-at-HeaderSize))
	return dst
}

func appendRequest(dst []byte, f Frame) []byte {
	dst = append(dst, byte(f.Op))
	switch f.Op {
	case OpLine:
		return append(dst, clip(f.Line, 255)...)
	case OpPurge:
		return append(dst, f.Bits)
	case OpModem:
		return append(dst, byte(f.Mask), byte(f.On))
	case OpBreak:
		return binary.BigEndian.AppendUint32(dst, f.Count)
	case OpReset:
		return append(dst, clip(f.Text, MaxText)...)
	}
	return dst
}

// appendReason appends why something failed or ended.
func appendReason(dst []byte, f Frame) []byte {
	text := clip(f.Text, MaxText)
	dst = binary.BigEndian.AppendUint16(append(dst, f.Code), uint16(len(text)))
	return append(append(dst, text...), clip(f.Next, MaxText)...)
}

func flag(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// clip cuts a text to most bytes of valid UTF-8.
func clip(text string, most int) string {
	for len(text) > most || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, most)]
	}
	return text
}

// Decode reads the first frame of b and says how many bytes that took: 0
// without an error when b does not hold a whole frame. A type to be skipped is
// returned like any other, with its Type alone. Errors wrap ErrFormat.
func Decode(b []byte) (f Frame, size int, err error) {
	if len(b) < HeaderSize {
		return Frame{}, 0, nil
	}
	t, length := Type(b[0]), int(binary.BigEndian.Uint16(b[1:]))
	if lowest, highest := lengths(t); length < lowest || length > highest {
		return Frame{}, 0, fmt.Errorf("decode frame: %w: type %d of %d bytes", ErrFormat, t, length)
	}
	if len(b) < HeaderSize+length {
		return Frame{}, 0, nil
	}
	f, ok := parse(t, b[HeaderSize:HeaderSize+length])
	if !ok {
		return Frame{}, 0, fmt.Errorf("decode frame: %w: type %d", ErrFormat, t)
	}
	return f, HeaderSize + length, nil
}

// lengths returns the bounds of a type's payload; highest is -1 for a type that
// may not occur.
func lengths(t Type) (lowest, highest int) {
	const reason = 1 + 2 + 2*MaxText
	switch t {
	case Data:
		return 1, MaxData
	case Window:
		return 4, 4
	case Request:
		return 5, 5 + MaxText
	case Answer:
		return 4 + 3, 4 + reason
	case State:
		return 4, 4 + 255 + MaxText
	case Gap:
		return 10, 10
	case End:
		return 3, reason
	}
	if t >= ignorable {
		return 0, MaxData
	}
	return 0, -1
}

// parse reads a payload whose length is within the bounds of its type.
func parse(t Type, p []byte) (f Frame, ok bool) {
	f = Frame{Type: t}
	switch t {
	case Data:
		f.Data = p
	case Window:
		f.Count = binary.BigEndian.Uint32(p)
	case Request:
		f.ID, f.Op = binary.BigEndian.Uint32(p), Op(p[4])
		return f, f.argument(p[5:])
	case Answer:
		f.ID = binary.BigEndian.Uint32(p)
		return f, f.reason(p[4:])
	case State:
		f.Flags, f.Mask, f.On = p[0], line.ModemLines(p[1]), line.ModemLines(p[2])
		n := int(p[3])
		if len(p) < 4+n {
			return f, false
		}
		f.Line, f.Text = string(p[4:4+n]), string(p[4+n:])
		return f, len(f.Text) <= MaxText && utf8.Valid(p[4:4+n]) && utf8.ValidString(f.Text)
	case Gap:
		f.Direction, f.Unknown, f.Lost = p[0], p[1] == 1, binary.BigEndian.Uint64(p[2:])
		return f, p[1] <= 1 && (f.Direction == FromDevice || f.Direction == ToDevice)
	case End:
		return f, f.reason(p)
	}
	return f, true
}

// argument reads that of a request; one of an unknown op has none.
func (f *Frame) argument(p []byte) bool {
	switch f.Op {
	case OpLine:
		f.Line = string(p)
		return len(p) <= 255 && utf8.Valid(p)
	case OpPurge:
		if len(p) != 1 {
			return false
		}
		f.Bits = p[0]
	case OpDrain:
		return len(p) == 0
	case OpModem:
		if len(p) != 2 {
			return false
		}
		f.Mask, f.On = line.ModemLines(p[0]), line.ModemLines(p[1])
	case OpBreak:
		if len(p) != 4 {
			return false
		}
		f.Count = binary.BigEndian.Uint32(p)
	case OpReset:
		f.Text = string(p)
		return utf8.Valid(p)
	}
	return true
}

// reason reads code, text and next step.
func (f *Frame) reason(p []byte) bool {
	n := int(binary.BigEndian.Uint16(p[1:]))
	if len(p) < 3+n {
		return false
	}
	f.Code, f.Text, f.Next = p[0], string(p[3:3+n]), string(p[3+n:])
	return n <= MaxText && len(f.Next) <= MaxText && utf8.ValidString(f.Text) && utf8.ValidString(f.Next)
}
