package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The header of a file, and of each record in it: pcap with nanoseconds, little
// endian (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html).
const (
	pcapMagic    = 0xa1b23c4d
	pcapLink     = 147 // LINKTYPE_USER0
	pcapHeader   = 24
	packetHeader = 16
)

// Writer writes a capture file. It is not safe for concurrent use.
type Writer struct {
	to  io.Writer
	buf []byte
}

// NewWriter writes the header of a file to to, which stays the caller's to
// close.
func NewWriter(to io.Writer) (*Writer, error) {
	h := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = binary.LittleEndian.AppendUint32(h, headerSize+MaxPayload)
	h = binary.LittleEndian.AppendUint32(h, pcapLink)
	if _, err := to.Write(h); err != nil {
		return nil, fmt.Errorf("write capture: %w", err)
	}
	return &Writer{to: to}, nil
}

// Write writes one event.
func (w *Writer) Write(e Event) error {
	w.buf = append(w.buf[:0], make([]byte, packetHeader)...)
	w.buf = Append(w.buf, e)
	at, length := max(e.At, 0), uint32(len(w.buf)-packetHeader)
	binary.LittleEndian.PutUint32(w.buf[0:], uint32(at/time.Second))
	binary.LittleEndian.PutUint32(w.buf[4:], uint32(at%time.Second))
	binary.LittleEndian.PutUint32(w.buf[8:], length)
	binary.LittleEndian.PutUint32(w.buf[12:], length)
	if _, err := w.to.Write(w.buf); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// Reader reads a capture file. It is not safe for concurrent use.
type Reader struct {
	from io.Reader
	buf  []byte
}

// NewReader reads the header of a file. Errors wrap ErrFormat if it is none.
func NewReader(from io.Reader) (*Reader, error) {
	h := make([]byte, pcapHeader)
	if _, err := io.ReadFull(from, h); err != nil {
		return nil, fmt.Errorf("read capture: %w: %w", ErrFormat, err)
	}
	if binary.LittleEndian.Uint32(h) != pcapMagic || binary.LittleEndian.Uint32(h[20:]) != pcapLink {
		return nil, fmt.Errorf("read capture: %w: it has another header", ErrFormat)
	}
	return &Reader{from: from}, nil
}

// Read returns the next event, and io.EOF after the last; Data is valid until
// the next call. A file that ends within a record, as that of a program that
// was killed, ends with io.ErrUnexpectedEOF.
func (r *Reader) Read() (Event, error) {
	var h [packetHeader]byte
	if _, err := io.ReadFull(r.from, h[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return Event{}, io.EOF
		}
		return Event{}, fmt.Errorf("read capture: %w", err)
	}
	length := binary.LittleEndian.Uint32(h[8:])
	if length < headerSize || length > headerSize+MaxPayload {
		return Event{}, fmt.Errorf("read capture: %w: record of %d bytes", ErrFormat, length)
	}
	if cap(r.buf) < int(length) {
		r.buf = make([]byte, length)
	}
	r.buf = r.buf[:length]
	if _, err := io.ReadFull(r.from, r.buf); err != nil {
		return Event{}, fmt.Errorf("read capture: %w", io.ErrUnexpectedEOF)
	}
	e, size, err := Decode(r.buf)
	if err == nil && size != int(length) {
		err = fmt.Errorf("read capture: %w: record of %d bytes in %d", ErrFormat, size, length)
	}
	return e, err
}
