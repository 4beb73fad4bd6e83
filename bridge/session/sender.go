package session

import (
	"fmt"
	"time"
)

// Limits of a sender.
const (
	// DefaultWindow is how much each side keeps unacknowledged, in bytes:
	// 22 s of a line at 115,200 bit/s, longer than the default hold.
	DefaultWindow = 262144

	// firstRing is what a session's buffer starts with; it doubles on
	// demand. Sticks rarely have more than a few frames in flight.
	firstRing = 4096
	// mergeMost is the most that writes may have together to go as one frame.
	// Where a device has several writers, they take turns frame by frame: more
	// would make the others wait, less would cost a frame per keystroke.
	mergeMost = 2048

	// maxControls bounds the controls that are not acknowledged. An
	// application changes line settings a few times per open.
	maxControls = 256
)

// sender keeps the unacknowledged part of one direction.
//
//	base ≤ next ≤ end        base: first not acknowledged
//	 └─ kept ──────┘         next: first not sent on this stream
//
// ring holds base..end; a control has one byte of it, whose value is unused.
type sender struct {
	ring            []byte // length a power of two
	base, next, end uint64
	limit           int // most kept: the smaller of both sides' windows
	controls        []placed
	writes          []uint64 // where writes end, those that go together as one; of base..end, ascending

	stale  time.Duration // age at which a burst is given up at resume; 0: never
	bursts []burst       // with stale: of base..end, as far as not given up
	skips  []span        // given up, ascending
}

// placed is a control at its offset, encoded.
type placed struct {
	offset uint64
	body   []byte
}

func (s *sender) kept() int { return int(s.end - s.base) }

func (s *sender) room() int { return max(0, s.limit-s.kept()) }

// grow makes the ring hold n bytes. It is called with n ≤ limit.
func (s *sender) grow(n int) {
	if n <= len(s.ring) {
		return
	}
	size := max(len(s.ring), firstRing)
	for size < n {
		size *= 2
	}
	larger := make([]byte, size)
	for at := s.base; at < s.end; {
		chunk := s.at(at, int(s.end-at))
		place := larger[at&uint64(size-1):]
		at += uint64(copy(place, chunk))
	}
	s.ring = larger
}

// at returns the longest contiguous part of the ring from offset on, at most n.
func (s *sender) at(offset uint64, n int) []byte {
	from := int(offset & uint64(len(s.ring)-1))
	return s.ring[from:min(len(s.ring), from+n)]
}

func (s *sender) append(now time.Duration, p []byte) int {
	p = p[:min(len(p), s.room())]
	if len(p) == 0 {
		return 0
	}
	s.grow(s.kept() + len(p))
	for rest := p; len(rest) > 0; {
		n := copy(s.at(s.end, len(rest)), rest)
		rest = rest[n:]
		s.end += uint64(n)
	}
	s.noteWrite(len(p))
	s.noteBurst(now, len(p))
	return len(p)
}

// noteWrite notes where a write of n bytes ended: at s.end.
func (s *sender) noteWrite(n int) {
	i := len(s.writes) - 1
	if i < 0 || s.writes[i] != s.end-uint64(n) { // the first, or after a control
		s.writes = append(s.writes, s.end)
		return
	}
	start := s.base
	if i > 0 {
		start = s.writes[i-1]
	}
	if s.end-start > mergeMost {
		s.writes = append(s.writes, s.end)
		return
	}
	s.writes[i] = s.end
}

// whole shortens a frame that begins at s.next and may reach to limit, so that it
// ends where a write ends. A write longer than a frame is cut.
func (s *sender) whole(limit uint64) uint64 {
	for _, end := range s.writes {
		if end > s.next {
			return min(end, limit, s.next+MaxData)
		}
	}
	return min(limit, s.next+MaxData)
}

func (s *sender) appendControl(body []byte) bool {
	if s.room() == 0 || len(s.controls) >= maxControls {
		return false
	}
	s.grow(s.kept() + 1)
	s.controls = append(s.controls, placed{s.end, body})
	s.end++
	return true
}

// frame appends the next DATA, SKIP or CONTROL frame to dst, or nothing if all that
// is kept was sent.
func (s *sender) frame(dst []byte) []byte {
	if s.next == s.end {
		return dst
	}
	limit := s.end
	for _, c := range s.controls {
		if c.offset == s.next {
			s.next++
			return appendControl(dst, c.offset, c.body)
		}
		if c.offset > s.next {
			limit = c.offset
			break
		}
	}
	given, limit := s.skipped(limit)
	if given > 0 {
		dst = appendSkip(dst, s.next, uint32(given))
		s.next += given
		return dst
	}
	length := int(s.whole(limit) - s.next)
	dst = appendHeader(dst, TypeData, offsetSize+length)
	dst = appendOffset(dst, s.next)
	for length > 0 {
		chunk := s.at(s.next, length)
		dst = append(dst, chunk...)
		s.next += uint64(len(chunk))
		length -= len(chunk)
	}
	return dst
}

// ack drops what was delivered before offset. An older ACK changes nothing.
func (s *sender) ack(offset uint64) error {
	if offset > s.next {
		return fmt.Errorf("acknowledge offset %d: %w: only %d was sent", offset, ErrProtocol, s.next)
	}
	if offset <= s.base {
		return nil
	}
	s.base = offset
	drop := 0
	for drop < len(s.controls) && s.controls[drop].offset < offset {
		drop++
	}
	if drop > 0 {
		s.controls = append(s.controls[:0], s.controls[drop:]...)
	}
	s.forget()
	return nil
}

// rewind makes offset the next to be sent: where the receiver stands.
func (s *sender) rewind(offset uint64) error {
	if offset < s.base || offset > s.end {
		return fmt.Errorf("resume at offset %d: %w: kept are %d to %d", offset, CodeCannotResume, s.base, s.end)
	}
	s.next = offset
	return nil
}
