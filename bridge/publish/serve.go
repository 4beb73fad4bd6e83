package publish

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Serve runs one session stream of an authenticated peer: it reads OPEN,
// gives or refuses the device, and carries bytes until the stream ends; then
// it keeps the session for the hold time, unless another stream resumes it.
// It closes conn. It blocks all that while; ctx ends it. The error says why
// the session or the stream ended; nil: the consumer closed it.
func (p *Publisher) Serve(ctx context.Context, conn net.Conn, peer identity.NodeID) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	frames := link.NewFrameReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(link.HandshakeTimeout))
	open, err := readOpen(frames)
	if err != nil {
		return link.Refuse(conn, session.CloseError{Code: session.CodeProtocol, Text: err.Error()}, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	d := p.device(open.Device)
	if d == nil {
		why := session.CloseError{Code: session.CodeNotFound, Text: fmt.Sprintf("%q is not published here", open.Device)}
		return link.Refuse(conn, why, &why)
	}
	return d.Serve(ctx, conn, frames, open, peer)
}

func readOpen(frames *link.FrameReader) (session.Open, error) {
	f, err := frames.Next()
	if err != nil {
		return session.Open{}, err
	}
	if f.Type != session.TypeOpen {
		return session.Open{}, fmt.Errorf("read OPEN: %w: %v came", session.ErrProtocol, f.Type)
	}
	return session.ParseOpen(f.Payload)
}
