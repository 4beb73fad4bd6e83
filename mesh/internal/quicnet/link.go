package quicnet

import (
	"io"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/serialspan/serialspan/mesh/identity"
)

// link is one QUIC connection.
type link struct {
	conn          *quic.Conn
	node          identity.NodeID
	key           linkKey
	since         time.Time // monotonic
	local, remote net.Addr

	streams int           // open or waiting; guarded by Net.mu
	freed   chan struct{} // capacity 1: streams has become 0
	drains  bool          // a goroutine waits to close it; guarded by Net.mu
}

func (n *Net) newLink(conn *quic.Conn, node identity.NodeID, key linkKey) *link {
	if certs := conn.ConnectionState().TLS.PeerCertificates; len(certs) == 1 {
		key.instance = instanceOf(certs[0])
	}
	return &link{
		conn:   conn,
		node:   node,
		key:    key,
		since:  time.Now(),
		local:  n.cfg.Addr(n.self),
		remote: n.cfg.Addr(node),
		freed:  make(chan struct{}, 1),
	}
}

// accepted takes in a connection that a peer has dialed.
func (n *Net) accepted(conn *quic.Conn) {
	node, ok := n.cfg.NodeOf(conn.RemoteAddr())
	if !ok {
		_ = conn.CloseWithError(connForgotten, "")
		return
	}
	round, floor, of, err := parseRoundName(conn.ConnectionState().TLS.ServerName)
	if err != nil {
		n.log.Debug("connection refused", "node", node, "err", err)
		_ = conn.CloseWithError(connBadRound, "")
		return
	}
	if of != n.instance.tag() {
		floor = 0 // it is about a former process of ours
	}
	n.adopt(n.newLink(conn, node, linkKey{round: round, floor: floor, dialer: node}), nil)
}

// adopt makes a connection one of its pair, serves its streams and closes the
// connections that have lost to it. The attempt that made it, if any, ends.
func (n *Net) adopt(l *link, a *attempt) {
	n.mu.Lock()
	p := n.peer(l.node)
	if n.closing {
		n.mu.Unlock()
		_ = l.conn.CloseWithError(connShutdown, "")
		return
	}
	if a != nil {
		if p.attempt != a {
			n.mu.Unlock()
			_ = l.conn.CloseWithError(connRenewed, "")
			return
		}
		p.attempt = nil
	}
	lost := p.pair.adopt(l, l.key)
	n.settle(p)
	n.wg.Go(func() { n.serve(l) })
	n.mu.Unlock()
	n.log.Debug("connection up", "node", l.node, "dialed", l.key.dialer == n.self, "round", l.key.round)
	for _, old := range lost {
		_ = old.conn.CloseWithError(connReplaced, "")
	}
}

// settle lets the connections drain that are not used for new streams, and
// wakes waiting dials. Called with mu held.
func (n *Net) settle(p *peer) {
	current, ok := p.pair.current()
	for _, e := range p.pair.links {
		if e.link != current && !e.link.drains {
			e.link.drains = true
			n.wg.Go(func() { n.drain(e.link) })
		}
	}
	if ok {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// drain closes a connection when no stream uses it any more, unless it has
// become the one in use.
func (n *Net) drain(l *link) {
	linger := time.NewTimer(drainLinger)
	defer linger.Stop()
	select {
	case <-linger.C:
	case <-l.conn.Context().Done():
		return
	}
	for {
		n.mu.Lock()
		p := n.peer(l.node)
		if current, _ := p.pair.current(); current == l {
			l.drains = false
			n.mu.Unlock()
			return
		}
		if l.streams == 0 {
			p.pair.remove(l)
			n.mu.Unlock()
			_ = l.conn.CloseWithError(connReplaced, "")
			return
		}
		n.mu.Unlock()
		select {
		case <-l.freed:
		case <-l.conn.Context().Done():
			return
		}
	}
}

// serve accepts the streams of a connection until it ends.
func (n *Net) serve(l *link) {
	for {
		// Ends with the connection, which Run closes: no context is needed.
		stream, err := l.conn.AcceptStream(l.conn.Context())
		if err != nil {
			break
		}
		n.retain(l)
		s := &Stream{stream: stream, link: l, net: n}
		n.wg.Go(func() { n.route(s) })
	}
	<-l.conn.Context().Done()
	n.mu.Lock()
	p := n.peer(l.node)
	p.pair.remove(l)
	n.mu.Unlock()
	n.log.Debug("connection down", "node", l.node, "round", l.key.round, "err", contextError(l))
}

// route reads the header of an incoming stream and queues it for Accept.
func (n *Net) route(s *Stream) {
	var h [headerSize]byte
	_ = s.stream.SetReadDeadline(time.Now().Add(headerTimeout)) // always nil
	if _, err := io.ReadFull(s.stream, h[:]); err != nil {
		s.refuse(streamBadHeader)
		return
	}
	_ = s.stream.SetReadDeadline(time.Time{})
	protocol, err := parseHeader(h)
	if err != nil {
		s.refuse(streamBadHeader)
		return
	}
	n.mu.Lock()
	q, ok := n.protocols[protocol]
	n.mu.Unlock()
	if !ok {
		n.log.Debug("stream refused", "node", s.link.node, "err", ErrUnknownProtocol, "protocol", protocol)
		s.refuse(streamUnknownProtocol)
		return
	}
	select {
	case q <- s:
	default:
		n.log.Debug("stream refused", "node", s.link.node, "err", ErrBusy, "protocol", protocol)
		s.refuse(streamBusy)
	}
}

func (n *Net) retain(l *link) {
	n.mu.Lock()
	l.streams++
	n.mu.Unlock()
}

func (n *Net) release(l *link) {
	n.mu.Lock()
	l.streams--
	free := l.streams == 0
	n.mu.Unlock()
	if free {
		select {
		case l.freed <- struct{}{}:
		default:
		}
	}
}
