package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// Stream is one direction of a long transfer: bytes that look random and are
// made again by the receiver, each block of them different from every other, so
// that it can tell what became of them. Send and Receive run in goroutines of
// their own, once each.
type Stream struct {
	name string
	key  uint64
	size int

	mu       sync.Mutex
	arrivals []Arrival
}

// Arrival is one read.
type Arrival struct {
	At    time.Time
	Total int // bytes that had come when it returned
}

// NewStream returns a stream of size bytes, a multiple of 8; streams with
// another key have other bytes.
func NewStream(name string, key uint64, size int) *Stream {
	return &Stream{name: name, key: key, size: size}
}

// fill writes the stream's bytes from the offset on, a multiple of 8, to p.
func (s *Stream) fill(p []byte, offset int) {
	for i := 0; i < len(p); i += 8 {
		// SplitMix64 of a counter: no two words of a stream are the same.
		z := s.key + uint64((offset+i)/8+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(p[i:], z^z>>31)
	}
}

// block is how much is written at once, in bytes.
const block = 4096

// Send writes the stream in that many equal parts, each when released has a
// value for it. It returns early if released is closed.
func (s *Stream) Send(w io.Writer, parts int, released <-chan struct{}) error {
	sent := 0
	for part := 1; part <= parts; part++ {
		if _, more := <-released; !more {
			return nil
		}
		until := s.size / 8 * part / parts * 8
		for sent < until {
			p := make([]byte, min(block, until-sent))
			s.fill(p, sent)
			n, err := w.Write(p)
			if err != nil {
				return fmt.Errorf("send %s: after %d of %d bytes: %w", s.name, sent+n, s.size, err)
			}
			sent += n
		}
	}
	return nil
}

// Receive reads the stream to its end and returns how the first byte that is
// wrong came to be so: what was lost, what came twice.
func (s *Stream) Receive(r io.Reader) error {
	want := make([]byte, 0, block+8)
	got := 0
	for buffer := make([]byte, block); got < s.size; {
		n, err := r.Read(buffer)
		if n > s.size-got {
			return fmt.Errorf("receive %s: %d bytes too many", s.name, n-(s.size-got))
		}
		first := got / 8 * 8
		want = want[:(got+n-first+7)/8*8]
		s.fill(want, first)
		if expected := want[got-first:][:n]; !bytes.Equal(buffer[:n], expected) {
			i := 0
			for buffer[i] == expected[i] {
				i++
			}
			return fmt.Errorf("receive %s: byte %d of %d is wrong: %s", s.name, got+i, s.size, s.diagnose(buffer[i:n], got+i))
		}
		got += n
		if n > 0 {
			s.mu.Lock()
			s.arrivals = append(s.arrivals, Arrival{time.Now(), got})
			s.mu.Unlock()
		}
		if err != nil && got < s.size {
			return fmt.Errorf("receive %s: after %d of %d bytes: %w", s.name, got, s.size, err)
		}
	}
	return nil
}

// diagnose tells where in the stream the bytes belong that came at an offset.
func (s *Stream) diagnose(came []byte, at int) string {
	const reach, enough = 4 << 20, 8
	if len(came) < enough {
		return fmt.Sprintf("% x", came)
	}
	from := max(0, at-reach) / 8 * 8
	around := make([]byte, min(2*reach, (s.size-from)/8*8))
	s.fill(around, from)
	i := bytes.Index(around, came[:enough])
	switch {
	case i < 0:
		return fmt.Sprintf("% x is nowhere near in the stream", came[:enough])
	case from+i > at:
		return fmt.Sprintf("%d bytes were lost or come later", from+i-at)
	default:
		return fmt.Sprintf("the last %d bytes come again", at-from-i)
	}
}

// Arrivals returns the reads so far, oldest first.
func (s *Stream) Arrivals() []Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrivals[:len(s.arrivals):len(s.arrivals)]
}

// Total returns how many bytes have come, all of them right.
func (s *Stream) Total() int {
	if all := s.Arrivals(); len(all) > 0 {
		return all[len(all)-1].Total
	}
	return 0
}
