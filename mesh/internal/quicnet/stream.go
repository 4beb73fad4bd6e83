package quicnet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Stream is one stream to a member and satisfies net.Conn; what Dial and Accept
// return is always a *Stream. Whoever gets it closes it. It is safe for
// concurrent use; concurrent reads, or writes, go one after the other.
//
// Read returns io.EOF after the peer closed its writing side in order, and
// ErrAborted if it did not. Both directions end with *LostError when the
// connection ends, and with ErrUnknownProtocol or ErrBusy if the peer did not
// take the stream. After Close they return net.ErrClosed.
type Stream struct {
	stream *quic.Stream
	link   *link
	net    *Net

	closed  atomic.Bool
	closing sync.Once
	writing sync.Mutex // held during a write, and by CloseWrite
}

var _ net.Conn = (*Stream)(nil)

// Read blocks until there are bytes, the end, an error or the read deadline.
func (s *Stream) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := s.stream.Read(p)
	return n, streamError(s.link.node, err)
}

// Write blocks while the peer's receive window is full, until the write
// deadline or Close. That it returns does not mean that the peer has the bytes.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := s.stream.Write(p)
	return n, streamError(s.link.node, err)
}

// CloseWrite ends the writing side: the peer reads io.EOF after all bytes. It
// waits for a write that is under way.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed.Load() {
		return net.ErrClosed
	}
	if err := s.stream.Close(); err != nil {
		return errPeerClosed // the only error that there is
	}
	return nil
}

// Close ends both directions. Bytes already written are still delivered, bytes
// not yet read are not wanted any more. Blocked reads and writes return
// net.ErrClosed; if a write was blocked, the peer reads ErrAborted instead of
// io.EOF. It does not wait for the peer and returns nil.
func (s *Stream) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.stream.CancelRead(streamClosed)
		if s.writing.TryLock() {
			_ = s.stream.Close() // fails only if the peer has refused the bytes
			s.writing.Unlock()
		} else {
			s.stream.CancelWrite(streamAborted)
		}
		s.net.release(s.link)
	})
	return nil
}

// refuse closes a stream that was not accepted.
func (s *Stream) refuse(code quic.StreamErrorCode) {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.stream.CancelRead(code)
		s.stream.CancelWrite(code)
		s.net.release(s.link)
	})
}

// LocalAddr returns the plane address of this node.
func (s *Stream) LocalAddr() net.Addr { return s.link.local }

// RemoteAddr returns the plane address of the peer.
func (s *Stream) RemoteAddr() net.Addr { return s.link.remote }

// SetDeadline sets both deadlines. The zero time is none; a passed deadline
// fails with an error that satisfies net.Error and os.ErrDeadlineExceeded.
func (s *Stream) SetDeadline(t time.Time) error { return s.stream.SetDeadline(t) }

// SetReadDeadline applies to blocked and future reads.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.stream.SetReadDeadline(t) }

// SetWriteDeadline applies to blocked and future writes.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.stream.SetWriteDeadline(t) }
