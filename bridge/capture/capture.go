// Package capture is what a monitor of a serial device sees: events with their
// monotonic time, as records in a session's stream and in files. It is values
// and their codec; it opens nothing.
//
// # Record
//
// Numbers are big endian.
//
//	kind (1) | time (8) | length (2) | payload (length)
//
//	FromDevice  1   bytes that the device sent
//	ToDevice    2   bytes that were handed to the device's driver
//	Line        3   line settings from here on, as text: 115200n81
//	Modem       4   mask (1) | on (1): modem lines, bits of line.ModemLines
//	Gap         5   direction (1: FromDevice or ToDevice) | unknown (1) | lost (8): bytes that are not here
//	Purge       6   bits (1): 1 what the device sent, 2 what was on its way to it
//	Port        7   0 away or 1 open (1) | why, as text
//	Note        8   text for people
//
// Time is in nanoseconds since the capture began, on the monotonic clock of
// the device's owner. A kind that a reader does not know is skipped.
//
// # File
//
// Files are in FORMAT.md beside this package: pcap, for Wireshark.
package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// SessionKind is the kind, in its OPEN, of a session that monitors: it is
// read-only, and its data are records of this package.
const SessionKind = "monitor"

// Kind tells events apart. Numbers are append-only.
type Kind uint8

// The kinds of events; see the package comment.
const (
	FromDevice Kind = 1
	ToDevice   Kind = 2
	Line       Kind = 3
	Modem      Kind = 4
	Gap        Kind = 5
	Purge      Kind = 6
	Port       Kind = 7
	Note       Kind = 8
)

// String returns the kind in lower case.
func (k Kind) String() string {
	names := [...]string{"kind 0", "from device", "to device", "line", "modem", "gap", "purge", "port", "note"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	headerSize = 11
	// MaxPayload is the most bytes in a record.
	MaxPayload = 1<<16 - 1
)

// ErrFormat is wrapped by the errors of Decode and Reader.
var ErrFormat = errors.New("not a capture")

// Event is something that happened at a device. Only the fields that its Kind
// names are meant.
type Event struct {
	At   time.Duration // since the capture began, on the clock of the owner
	Kind Kind
	Data []byte // FromDevice, ToDevice
	Text string // Line, Port, Note
	// Mask and On are the lines of Modem.
	Mask, On line.ModemLines
	// Of is the direction of a Gap, Lost its bytes, Unknown that there may be
	// more.
	Of      Kind
	Lost    uint64
	Unknown bool
	Bits    uint8 // Purge
	Open    bool  // Port
}

// Append appends the record of e to dst. Data and text beyond MaxPayload are
// cut.
func Append(dst []byte, e Event) []byte {
	at := len(dst)
	dst = append(dst, byte(e.Kind))
	dst = binary.BigEndian.AppendUint64(dst, uint64(max(e.At, 0)))
	dst = append(dst, 0, 0)
	dst = appendPayload(dst, e)
	dst = dst[:min(len(dst), at+headerSize+MaxPayload)]
	binary.BigEndian.PutUint16(dst[at+9:], uint16(len(dst)-at-headerSize))
	return dst
}

func appendPayload(dst []byte, e Event) []byte {
	switch e.Kind {
	case FromDevice, ToDevice:
		return append(dst, e.Data...)
	case Line, Note:
		return append(dst, e.Text...)
	case Modem:
		return append(dst, byte(e.Mask), byte(e.On))
	case Gap:
		return binary.BigEndian.AppendUint64(append(dst, byte(e.Of), flag(e.Unknown)), e.Lost)
	case Purge:
		return append(dst, e.Bits)
	case Port:
		return append(append(dst, flag(e.Open)), e.Text...)
	}
	return dst
}

func flag(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// Decode reads the first record of b. It returns how many bytes that took: 0
// without an error if b does not hold a whole one. Data aliases b. An event of
// an unknown kind has nothing but kind and time. Errors wrap ErrFormat.
func Decode(b []byte) (e Event, size int, err error) {
	if len(b) < headerSize {
		return Event{}, 0, nil
	}
	size = headerSize + int(binary.BigEndian.Uint16(b[9:]))
	if len(b) < size {
		return Event{}, 0, nil
	}
	at := binary.BigEndian.Uint64(b[1:])
	if int64(at) < 0 {
		return Event{}, 0, fmt.Errorf("decode record: %w: time %d", ErrFormat, at)
	}
	e, err = decodePayload(Kind(b[0]), b[headerSize:size:size])
	e.At = time.Duration(at)
	return e, size, err
}

func decodePayload(k Kind, p []byte) (Event, error) {
	e := Event{Kind: k}
	want := map[Kind]int{Modem: 2, Gap: 10, Purge: 1}[k]
	if k == Port && len(p) == 0 || want != 0 && len(p) != want {
		return Event{}, fmt.Errorf("decode record: %w: %v of %d bytes", ErrFormat, k, len(p))
	}
	switch k {
	case FromDevice, ToDevice:
		e.Data = p
	case Line, Note:
		e.Text = string(p)
	case Modem:
		e.Mask, e.On = line.ModemLines(p[0]), line.ModemLines(p[1])
	case Gap:
		e.Of, e.Unknown, e.Lost = Kind(p[0]), p[1] != 0, binary.BigEndian.Uint64(p[2:])
	case Purge:
		e.Bits = p[0]
	case Port:
		e.Open, e.Text = p[0] != 0, string(p[1:])
	}
	return e, nil
}
