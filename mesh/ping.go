package mesh

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// pingProtocol is a stream on which each request of 8 bytes, a token, is
// answered by 16: the token, and the wall clock of the member that answers in
// nanoseconds since 1970, both big endian.
const pingProtocol = "ping/1"

// pingIdle ends a ping stream that nobody uses.
const pingIdle = 30 * time.Second

// Pong is the answer of a member to Ping.
type Pong struct {
	RoundTrip time.Duration
	Skew      time.Duration // how far its wall clock is ahead of ours, for people only
	Path      string        // as in Member
	Endpoint  string
}

// Ping measures the round trip to a member over a stream, n times in a row with
// a gap in between, and tells each result to each. It ends early when each
// returns false. The error is that of Dial, or why an answer did not come.
func (m *Mesh) Ping(ctx context.Context, id identity.NodeID, n int, gap time.Duration, each func(Pong) bool) error {
	conn, err := m.quic.Dial(ctx, id, pingProtocol)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	defer m.inSession(id)()
	for i := range n {
		pong, err := m.ping(conn, uint64(i))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("ping node %s: %w", id, err)
		}
		if member, ok := m.member(id); ok {
			pong.Path, pong.Endpoint = member.Path, member.Endpoint
		}
		if !each(pong) || i == n-1 {
			return nil
		}
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (m *Mesh) ping(conn net.Conn, token uint64) (Pong, error) {
	var out [8]byte
	binary.BigEndian.PutUint64(out[:], token)
	start := time.Now()
	if _, err := conn.Write(out[:]); err != nil {
		return Pong{}, err
	}
	var in [16]byte
	if _, err := io.ReadFull(conn, in[:]); err != nil {
		return Pong{}, err
	}
	p := Pong{RoundTrip: time.Since(start)}
	if binary.BigEndian.Uint64(in[:8]) != token {
		return Pong{}, fmt.Errorf("read answer: it is to another question")
	}
	there := int64(binary.BigEndian.Uint64(in[8:]))
	p.Skew = time.Duration(there-m.cfg.Wall().UnixNano()) + p.RoundTrip/2
	return p, nil
}

// pongLoop answers pings.
func (m *Mesh) pongLoop(ctx context.Context) {
	for {
		conn, _, err := m.quic.Accept(ctx, pingProtocol)
		if err != nil {
			return
		}
		m.pongs.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
			m.pong(conn)
		})
	}
}

func (m *Mesh) pong(conn net.Conn) {
	var buf [16]byte
	for {
		if err := conn.SetReadDeadline(time.Now().Add(pingIdle)); err != nil {
			return
		}
		if _, err := io.ReadFull(conn, buf[:8]); err != nil {
			return
		}
		binary.BigEndian.PutUint64(buf[8:], uint64(m.cfg.Wall().UnixNano()))
		if _, err := conn.Write(buf[:]); err != nil {
			return
		}
	}
}
