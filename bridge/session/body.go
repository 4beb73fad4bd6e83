package session

import (
	"encoding/binary"
	"fmt"

	"github.com/serialspan/serialspan/mesh/canonical"
)

// Limits of texts in CBOR bodies, in bytes.
const (
	// MaxName bounds a device's name: a registry name with the node's.
	MaxName = 128
	// MaxText bounds every other text; CLOSE's is cut to it when written.
	MaxText = 256
)

// ID names a session. The consumer draws it at random, so that it cannot be
// guessed; the zero value is no session.
type ID [16]byte

// String returns the first 4 bytes in hex, enough to tell sessions apart in
// logs and tables.
func (id ID) String() string { return fmt.Sprintf("%x", id[:4]) }

// Take says how far a consumer goes to get a device that is in use.
type Take uint8

// The values of key 6 of OPEN.
const (
	TakePolite Take = 0 // never takes a device from its holder
	TakeNormal Take = 1 // as the device's busy rule says
	TakeForce  Take = 2 // takes it whatever the rule says: a person asked for it
)

// Open asks for a device: the first frame of a stream, from the consumer.
type Open struct {
	Protocol uint64 `cbor:"1,keyasint"`
	// Device is the name by which its owner publishes the device.
	Device string `cbor:"2,keyasint"`
	ID     ID     `cbor:"3,keyasint"`
	// Resume asks to go on with session ID where Next says.
	Resume bool `cbor:"4,keyasint"`
	// Next is the offset of the byte that the consumer expects next.
	Next uint64 `cbor:"5,keyasint"`
	Take Take   `cbor:"6,keyasint"`
	// Window is how many bytes past the last ACK the consumer takes.
	Window uint64 `cbor:"7,keyasint"`
	// Line are the wanted line settings, "115200n81"; empty: the device's own.
	Line string `cbor:"8,keyasint"`
	// Kind is what the consumer attached it as: "pty", "tcp", "console".
	Kind string `cbor:"9,keyasint"`
	// ReadOnly asks to read along, whoever has the device. What the consumer
	// sends reaches nobody, and the owner drops what it does not read, as a
	// counted gap. With Kind "monitor", DATA from the owner are records of
	// package bridge/capture: both directions, with their time.
	ReadOnly bool `cbor:"10,keyasint"`
	// Replaces are sessions of the same consumer whose place this one takes, at
	// most MaxReplaces: the owner ends them, and refuses an OPEN for one that
	// arrives after this.
	Replaces []ID `cbor:"11,keyasint,omitempty"`
	// Attempt counts the consumer's OPENs for a session: one that is overtaken by
	// a later one changes nothing. 0: not counted.
	Attempt uint64 `cbor:"12,keyasint,omitempty"`
}

// MaxReplaces bounds Open.Replaces.
const MaxReplaces = 4

// Accept grants a device: the first frame from the owner.
type Accept struct {
	Protocol uint64 `cbor:"1,keyasint"`
	ID       ID     `cbor:"2,keyasint"`
	// Resumed is false when a new session begins, offsets from 0, even
	// though the consumer asked to resume.
	Resumed bool `cbor:"3,keyasint"`
	// Next is the offset of the byte that the owner expects next.
	Next uint64 `cbor:"4,keyasint"`
	// Window is how many bytes past the last ACK the owner takes.
	Window uint64 `cbor:"5,keyasint"`
	// Line are the line settings in force; empty if the port has none.
	Line string `cbor:"6,keyasint"`
	// Capabilities are words of the registry entry, for attachments that
	// offer more than raw bytes.
	Capabilities []string `cbor:"7,keyasint"`
	// HoldMillis is how long the owner keeps the session without a stream.
	HoldMillis uint64 `cbor:"8,keyasint"`
	// StaleMillis: both sides drop whole bursts that are older when a session
	// is resumed (max_stale); 0: never.
	StaleMillis uint64 `cbor:"9,keyasint,omitempty"`
}

// Kind tells the CONTROL frames apart. Numbers are append-only; a kind that
// the receiver does not know does nothing.
type Kind uint64

// The kinds of CONTROL.
const (
	KindLine  Kind = 1 // Line: new line settings, for the bytes after it
	KindPurge Kind = 2 // Bits: PurgeReceive, PurgeTransmit
	KindModem Kind = 3 // Bits and Mask: line.ModemLines. To the owner: drive the outputs in Mask as Bits say. From the owner, at the start of a session and on each change: all lines the port knows (Mask) and those that are on (Bits)
	KindBreak Kind = 4 // Millis: length of a break; 0: Bits 1 begins one, Bits 0 ends it
	KindGap   Kind = 5 // Lost and Unknown: bytes that never came
	KindLoss  Kind = 6 // Lost and Unknown: bytes of the other direction, acknowledged and yet not known to have reached the device
	KindReset Kind = 7 // Text: name of the reset recipe that the owner shall run
	KindUsers Kind = 8 // Text: who else uses the device, empty: nobody
	KindPort  Kind = 9 // Bits: PortAway, PortOpen; Text: why it is away

	// KindFailed, from the owner: what a control asked for could not be done,
	// or somebody else changed it. Line: the settings in force now; Mask and
	// Bits: the modem outputs; Text: why.
	KindFailed Kind = 10

	// KindMark asks for nothing: who sends it waits until all before it is
	// acknowledged.
	KindMark Kind = 11
)

// Values of the bits of KindPort: the owner keeps the session and the device
// is not there, or is there again and everything was set again.
const (
	PortAway = 0
	PortOpen = 1
)

// Bits of KindPurge, as the consumer's application sees the directions.
const (
	PurgeReceive  = 1 // what the device sent and the application has not read
	PurgeTransmit = 2 // what the application wrote and the device has not got
)

// Control is something that happens at one place in the data.
type Control struct {
	Kind   Kind   `cbor:"1,keyasint"`
	Line   string `cbor:"2,keyasint,omitempty"`
	Bits   uint64 `cbor:"3,keyasint,omitempty"`
	Mask   uint64 `cbor:"4,keyasint,omitempty"`
	Millis uint64 `cbor:"5,keyasint,omitempty"`
	// Lost is up to how many bytes of this direction never reached their
	// goal. Unknown: there may be more, and nobody can count them.
	Lost    uint64 `cbor:"6,keyasint,omitempty"`
	Unknown bool   `cbor:"7,keyasint,omitempty"`
	// Text is for people, or a name; at most MaxText bytes.
	Text string `cbor:"8,keyasint,omitempty"`
}

type closeBody struct {
	Code Code   `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

// encoding is RFC 8949 section 4.2.1, so that golden bytes are stable.
var encoding = canonical.Encoder()

// decoding refuses what a correct peer never sends and bounds the rest.
var decoding = canonical.Decoder(canonical.Limits{Levels: 4, Elements: 32, Pairs: 32})

// AppendOpen appends an OPEN frame to dst. It fails on a name or text beyond
// its limit.
func AppendOpen(dst []byte, o Open) ([]byte, error) {
	if err := o.check(); err != nil {
		return dst, fmt.Errorf("encode OPEN: %w", err)
	}
	return appendBody(dst, TypeOpen, o)
}

// AppendAccept appends an ACCEPT frame to dst. It fails on a text beyond its
// limit.
func AppendAccept(dst []byte, a Accept) ([]byte, error) {
	if err := a.check(); err != nil {
		return dst, fmt.Errorf("encode ACCEPT: %w", err)
	}
	return appendBody(dst, TypeAccept, a)
}

// AppendClose appends a CLOSE frame to dst; a longer text is cut to MaxText.
func AppendClose(dst []byte, e CloseError) []byte {
	text := e.Text
	for len(text) > MaxText || !validText(text) {
		text = text[:min(len(text)-1, MaxText)]
	}
	out, err := appendBody(dst, TypeClose, closeBody{Code: e.Code, Text: text})
	if err != nil {
		panic(err) // a number and a bounded valid text always encode
	}
	return out
}

// ParseOpen reads the payload of an OPEN frame.
func ParseOpen(payload []byte) (Open, error) {
	var o Open
	if err := parseBody(TypeOpen, payload, &o); err != nil {
		return Open{}, err
	}
	if err := o.check(); err != nil {
		return Open{}, fmt.Errorf("decode OPEN: %w: %w", ErrProtocol, err)
	}
	return o, nil
}

// ParseAccept reads the payload of an ACCEPT frame.
func ParseAccept(payload []byte) (Accept, error) {
	var a Accept
	if err := parseBody(TypeAccept, payload, &a); err != nil {
		return Accept{}, err
	}
	if err := a.check(); err != nil {
		return Accept{}, fmt.Errorf("decode ACCEPT: %w: %w", ErrProtocol, err)
	}
	return a, nil
}

// ParseClose reads the payload of a CLOSE frame; Remote is set.
func ParseClose(payload []byte) (*CloseError, error) {
	var body closeBody
	if err := parseBody(TypeClose, payload, &body); err != nil {
		return nil, err
	}
	if body.Code == 0 || len(body.Text) > MaxText {
		return nil, fmt.Errorf("decode CLOSE: %w: code %d, text of %d bytes", ErrProtocol, body.Code, len(body.Text))
	}
	return &CloseError{Code: body.Code, Text: body.Text, Remote: true}, nil
}

// ParseControl reads the payload of a CONTROL frame: its offset and its body.
func ParseControl(payload []byte) (offset uint64, c Control, err error) {
	if len(payload) < offsetSize {
		return 0, Control{}, fmt.Errorf("decode CONTROL: %w: %d bytes", ErrProtocol, len(payload))
	}
	offset, body := split(payload)
	if err := parseBody(TypeControl, body, &c); err != nil {
		return 0, Control{}, err
	}
	if c.Kind == 0 || len(c.Line) > MaxText || len(c.Text) > MaxText {
		return 0, Control{}, fmt.Errorf("decode CONTROL: %w: kind %d, line settings of %d bytes, text of %d", ErrProtocol, c.Kind, len(c.Line), len(c.Text))
	}
	return offset, c, nil
}

// appendControl appends a CONTROL frame whose body is already encoded.
func appendControl(dst []byte, offset uint64, body []byte) []byte {
	dst = appendHeader(dst, TypeControl, offsetSize+len(body))
	dst = binary.BigEndian.AppendUint64(dst, offset)
	return append(dst, body...)
}

func appendBody(dst []byte, t Type, body any) ([]byte, error) {
	raw, err := encoding.Marshal(body)
	if err != nil {
		return dst, fmt.Errorf("encode %v: %w", t, err)
	}
	if len(raw) > maxBody {
		return dst, fmt.Errorf("encode %v: %d bytes, at most %d fit", t, len(raw), maxBody)
	}
	return append(appendHeader(dst, t, len(raw)), raw...), nil
}

func parseBody(t Type, payload []byte, body any) error {
	if err := decoding.Unmarshal(payload, body); err != nil {
		return fmt.Errorf("decode %v: %w: %v", t, ErrProtocol, err)
	}
	return nil
}
