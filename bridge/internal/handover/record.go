// Package handover is what one run of the agent leaves to the next about a PTY
// attachment, in memory that outlives it: a memfd, which the service manager
// keeps next to the PTY's master and hands to the next process.
//
// It is not the session: package session saves and restores its end of that.
//
// # When it is written
//
// A record says either that an agent is at work, or that one has left and what
// it left behind:
//
//	Running   at each begin and end of an application's use and of a session:
//	          which session it is. Some 100 bytes.
//	AtRest    once, when the agent ends in good order and nothing moves any more:
//	          offsets, unacknowledged bytes, what applications wrote and the
//	          session has not taken.
//
// Nothing is written per byte, although memory would bear it. An agent that is
// killed is killed between any two instructions: after it has taken bytes from
// the terminal and before it could say so, or after it handed some over and
// before it could say so. However current the record, it would not say which;
// going on by it would lose or double bytes in silence. So a record that says
// Running stands for "it cannot be known", and a session is resumed only from
// one that says AtRest. The next agent writes Running over it before it goes on:
// nothing is resumed twice either.
//
// # Layout
//
//	magic "SSpH" (4) | version (1) | kind (1) | length (4) | CRC-32C of the body (4) | body (length)
//
// Numbers are big endian; the body is CBOR with number keys, of which unknown
// ones are ignored. What a version cannot express by a new key is a new version
// number; it is ErrUnknown to older agents, as a damaged record is. A write that
// a kill cut short (the kernel checks for signals between pages) leaves a wrong
// checksum.
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/canonical"
	"github.com/serialspan/serialspan/mesh/identity"
)

// ErrUnknown is wrapped when a record is damaged, cut short or of a version
// that is not known here: nothing is known of the agent that left it.
var ErrUnknown = errors.New("the record is damaged or of another version")

// Kind says what an agent was doing when it wrote a record.
type Kind uint8

// The kinds of records.
const (
	Running Kind = 1 // it is, or was when it was killed, at work
	AtRest  Kind = 2 // it left in good order
)

const (
	magic      = "SSpH"
	version    = 1
	headerSize = len(magic) + 1 + 1 + 4 + 4
	// maxBody bounds a record: two windows of bytes, CBOR, and room for larger
	// windows.
	maxBody = 32 << 20
)

// Record is what is known of an attachment. Running ones have no Use, Terminal
// and Totals.
type Record struct {
	Kind Kind `cbor:"-"`
	// Device and Link are the attachment's.
	Device string `cbor:"1,keyasint"`
	Link   string `cbor:"2,keyasint"`
	// InUse: an application had the terminal open.
	InUse bool `cbor:"3,keyasint,omitempty"`
	// Kicked: another took the device, this attachment waits politely.
	Kicked bool `cbor:"4,keyasint,omitempty"`
	// Session is the one in use, or the next to be opened; zero: none.
	Session session.ID `cbor:"5,keyasint"`

	// Initial are the settings that the terminal was made with, Wanted those
	// that an application has set, in words; empty: none did.
	Initial string `cbor:"9,keyasint,omitempty"`
	Wanted  string `cbor:"10,keyasint,omitempty"`

	Use      *Use      `cbor:"6,keyasint,omitempty"` // nil: not InUse
	Terminal *Terminal `cbor:"7,keyasint,omitempty"`
	Totals   Totals    `cbor:"8,keyasint,omitzero"`
}

// Use is an application's use of the device.
type Use struct {
	// End is the session's end at rest (session.Restore); empty: there was no
	// session. Owner and Name say where it is, Hold how long its owner keeps it
	// (ns).
	End   []byte          `cbor:"1,keyasint,omitempty"`
	Owner identity.NodeID `cbor:"2,keyasint"`
	Name  string          `cbor:"3,keyasint,omitempty"`
	Hold  int64           `cbor:"4,keyasint,omitempty"`
	// Age is the session's clock when it was saved, and Clock the monotonic
	// clock of the machine at the same moment, both in ns.
	Age   int64 `cbor:"5,keyasint,omitempty"`
	Clock int64 `cbor:"6,keyasint,omitempty"`
	// Line are the settings wanted of the owner, in words; LinesOff: the
	// application had set B0.
	Line     string `cbor:"7,keyasint,omitempty"`
	LinesOff bool   `cbor:"8,keyasint,omitempty"`
	Begun    bool   `cbor:"9,keyasint,omitempty"` // there was a session
	// Gap is what earlier sessions lost and the owner has not been told.
	Gap     uint64 `cbor:"10,keyasint,omitempty"`
	Unknown bool   `cbor:"11,keyasint,omitempty"` // and more that nobody counted
	// Closing: the application has closed, the rest is to be delivered.
	Closing bool `cbor:"12,keyasint,omitempty"`
	// Unsent is what the application did and the session has not taken, in
	// order.
	Unsent []Step `cbor:"13,keyasint,omitempty"`
	// Attempts is how often the owner was asked for a session.
	Attempts uint64 `cbor:"14,keyasint,omitempty"`
}

// Step is bytes, or else line settings, or else a control.
type Step struct {
	Bytes   []byte          `cbor:"1,keyasint,omitempty"`
	Control session.Control `cbor:"2,keyasint,omitzero"`
	// Line are settings that were asked for, in words. Frameless: their data
	// bits and parity mean nothing.
	Line      string `cbor:"3,keyasint,omitempty"`
	Frameless bool   `cbor:"4,keyasint,omitempty"`
}

// Terminal is what the terminal's reader knew.
type Terminal struct {
	Settings Settings `cbor:"1,keyasint"`           // as last told
	Fresh    bool     `cbor:"2,keyasint,omitempty"` // no bytes were read since it was opened
	// Held was read and not told; each of Changes comes after so many bytes of
	// it, beyond those of the changes before.
	Held    []byte   `cbor:"3,keyasint,omitempty"`
	Changes []Change `cbor:"4,keyasint,omitempty"`
	Opened  bool     `cbor:"5,keyasint,omitempty"` // and not closed
}

// Change is a change of settings.
type Change struct {
	After    int      `cbor:"1,keyasint,omitempty"`
	Settings Settings `cbor:"2,keyasint"`
}

// Settings are a terminal's.
type Settings struct {
	Line          string `cbor:"1,keyasint"`
	HangUpOnClose bool   `cbor:"2,keyasint,omitempty"`
	LinesOff      bool   `cbor:"3,keyasint,omitempty"`
}

// Totals count over all sessions of the attachment.
type Totals struct {
	Sent     uint64 `cbor:"1,keyasint,omitempty"`
	Received uint64 `cbor:"2,keyasint,omitempty"`
	Resumed  int    `cbor:"3,keyasint,omitempty"`
	Gaps     int    `cbor:"4,keyasint,omitempty"`
	Lost     uint64 `cbor:"5,keyasint,omitempty"`
}

// encoding is RFC 8949 section 4.2.1, so that golden bytes are stable.
var encoding = canonical.Encoder()

var decoding = canonical.Decoder(canonical.Limits{Levels: 8, Elements: 4096, Pairs: 64})

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the record to dst. It fails on one that Parse would not take.
func Append(dst []byte, r Record) ([]byte, error) {
	body, err := encoding.Marshal(r)
	if err == nil {
		err = r.check()
	}
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("%d bytes, at most %d fit", len(body), maxBody)
	}
	if err != nil {
		return dst, fmt.Errorf("encode record: %w", err)
	}
	dst = append(append(dst, magic...), version, byte(r.Kind))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...), nil
}

// Parse reads a record; bytes after it are ignored. Its errors wrap ErrUnknown.
func Parse(b []byte) (Record, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return Record{}, fmt.Errorf("decode record: %w: %d bytes", ErrUnknown, len(b))
	}
	head, body := b[len(magic):headerSize], b[headerSize:]
	if head[0] != version {
		return Record{}, fmt.Errorf("decode record: %w: version %d", ErrUnknown, head[0])
	}
	length := binary.BigEndian.Uint32(head[2:])
	if uint64(length) > uint64(len(body)) || length > maxBody {
		return Record{}, fmt.Errorf("decode record: %w: %d bytes of %d", ErrUnknown, len(body), length)
	}
	body = body[:length]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[6:]) {
		return Record{}, fmt.Errorf("decode record: %w: wrong checksum", ErrUnknown)
	}
	r := Record{Kind: Kind(head[1])}
	err := decoding.Unmarshal(body, &r)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return Record{}, fmt.Errorf("decode record: %w: %v", ErrUnknown, err)
	}
	return r, nil
}

func (r *Record) check() error {
	switch {
	case r.Kind != Running && r.Kind != AtRest:
		return fmt.Errorf("kind %d", r.Kind)
	case r.Kind == Running && (r.Use != nil || r.Terminal != nil):
		return errors.New("an agent at work that left something")
	case r.Kind == AtRest && r.Terminal == nil:
		return errors.New("no terminal")
	case (r.Use != nil) != (r.InUse && r.Kind == AtRest):
		return errors.New("a use and nobody who uses it")
	case r.Use != nil && len(r.Use.End) > 0 && r.Session == session.ID{}:
		return errors.New("a session without ID")
	case r.Terminal == nil:
		return nil
	}
	held := 0
	for _, c := range r.Terminal.Changes {
		if c.After < 0 || c.After > len(r.Terminal.Held)-held {
			return fmt.Errorf("a change after %d bytes of %d", c.After, len(r.Terminal.Held)-held)
		}
		held += c.After
	}
	if held != len(r.Terminal.Held) {
		return fmt.Errorf("%d bytes held before no change", len(r.Terminal.Held)-held)
	}
	return nil
}
