package link

import (
	"fmt"
	"io"

	"github.com/serialspan/serialspan/bridge/session"
)

// FrameReader cuts a stream into frames. It is not safe for concurrent use.
type FrameReader struct {
	from       io.Reader
	buf        []byte
	start, end int // of what was read and not yet returned
}

// readAhead is room behind the longest frame, so that a bulk stream needs one
// Read for several frames.
const readAhead = 4096

// NewFrameReader returns one that has read nothing yet.
func NewFrameReader(from io.Reader) *FrameReader {
	return &FrameReader{from: from, buf: make([]byte, session.MaxFrame+readAhead)}
}

// Next returns the next frame; its payload is valid until the next call. It
// blocks as the stream's Read does.
func (r *FrameReader) Next() (session.Frame, error) {
	for {
		f, size, err := session.Decode(r.buf[r.start:r.end])
		if err != nil {
			return session.Frame{}, err
		}
		if size > 0 {
			r.start += size
			return f, nil
		}
		if r.start == r.end {
			r.start, r.end = 0, 0
		} else if len(r.buf)-r.start < session.MaxFrame {
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		}
		n, err := r.from.Read(r.buf[r.end:])
		r.end += n
		if n == 0 && err != nil {
			if err == io.EOF && r.end > 0 {
				err = io.ErrUnexpectedEOF
			}
			return session.Frame{}, fmt.Errorf("read session stream: %w", err)
		}
	}
}
