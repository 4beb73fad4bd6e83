package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

// ErrUnknownProtocol is wrapped by the error of a stream's Read and Write when
// the other member does not accept its protocol.
var ErrUnknownProtocol = quicnet.ErrUnknownProtocol

// ErrRemoved is wrapped by the error of Dial for a node that was removed from
// the cluster.
var ErrRemoved = errors.New("the node was removed from the cluster")

type accepted struct {
	conn net.Conn
	from identity.NodeID
}

// Dial opens a stream of a protocol to a member, this node itself included.
// It blocks until there is a connection, ctx ends or the attempt fails: the
// error unwraps to net.ErrClosed once Run is over, or is a net.Error. Bytes may
// be written before the other side accepts. The caller closes the stream; it
// also has CloseWrite() error.
func (m *Mesh) Dial(ctx context.Context, id identity.NodeID, protocol string) (net.Conn, error) {
	if id == m.self {
		return m.dialSelf(ctx, protocol)
	}
	if m.isRemoved(id) {
		return nil, fmt.Errorf("dial node %s: %w", id, ErrRemoved)
	}
	if _, known := m.roster.Get(id); !known {
		return nil, fmt.Errorf("dial node %s: not a known member", id)
	}
	done := m.inSession(id)
	conn, err := m.quic.Dial(ctx, id, protocol)
	if err != nil {
		done()
		return nil, err
	}
	return &session{Conn: conn, done: done}, nil
}

// Accept waits for the next stream of a protocol of Config.Protocols and says
// who opened it. It fails when ctx ends, or with net.ErrClosed when Run is over.
func (m *Mesh) Accept(ctx context.Context, protocol string) (net.Conn, identity.NodeID, error) {
	queue, ok := m.accepts[protocol]
	if !ok {
		return nil, identity.NodeID{}, fmt.Errorf("accept streams of %q: not among Config.Protocols", protocol)
	}
	select {
	case a := <-queue:
		return a.conn, a.from, nil
	case <-ctx.Done():
		return nil, identity.NodeID{}, context.Cause(ctx)
	case <-m.stopped:
		return nil, identity.NodeID{}, net.ErrClosed
	}
}

// acceptLoop passes the streams of other members on to Accept.
func (m *Mesh) acceptLoop(ctx context.Context, protocol string, to chan<- accepted) {
	for {
		conn, from, err := m.quic.Accept(ctx, protocol)
		if err != nil {
			return
		}
		if m.isRemoved(from) {
			conn.Close()
			continue
		}
		select {
		case to <- accepted{&session{Conn: conn, done: m.inSession(from)}, from}:
		case <-ctx.Done():
			conn.Close()
			return
		}
	}
}

// dialSelf gives Accept one end of a pipe: a node uses its own devices too,
// cut off or not.
func (m *Mesh) dialSelf(ctx context.Context, protocol string) (net.Conn, error) {
	queue, ok := m.accepts[protocol]
	if !ok {
		return nil, fmt.Errorf("dial this node: %w %q", ErrUnknownProtocol, protocol)
	}
	near, far := net.Pipe()
	select {
	case queue <- accepted{far, m.self}:
		return near, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-m.stopped:
		return nil, net.ErrClosed
	}
}

// inSession counts an open stream with a member; the result ends it, once.
func (m *Mesh) inSession(id identity.NodeID) (done func()) {
	change := func(by int) {
		m.do(func() {
			m.sessions[id] += by
			m.usePeer(id)
			m.apply(m.peering.SetInUse(m.now(), id, m.sessions[id] > 0))
			if m.sessions[id] == 0 {
				delete(m.sessions, id)
			}
		})
		m.signals.look()
	}
	change(1)
	return sync.OnceFunc(func() { change(-1) })
}

// session is a stream whose member is in use until it is closed.
type session struct {
	net.Conn
	done func()
}

// Close ends both directions.
func (s *session) Close() error {
	s.done()
	return s.Conn.Close()
}

// CloseWrite ends the direction to the other side.
func (s *session) CloseWrite() error {
	c, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return c.CloseWrite()
}
