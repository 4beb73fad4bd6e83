package quicnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// peer is what the node knows of one member; guarded by Net.mu. It outlives its
// connections, because its rounds must not go back.
type peer struct {
	node    identity.NodeID
	pair    pair[*link]
	attempt *attempt      // the dial under way, nil if none
	changed chan struct{} // closed and replaced when a connection came about
}

// attempt is one dial. One that is not its peer's attempt any more was
// abandoned: it goes on, so that a handshake which the peer takes for complete
// is closed in order, but nobody waits for it.
type attempt struct {
	since time.Time
	done  chan struct{} // closed when it failed or was abandoned
	err   error         // readable after done; nil: dial again
}

// peer is called with mu held.
func (n *Net) peer(node identity.NodeID) *peer {
	p, ok := n.peers[node]
	if !ok {
		p = &peer{node: node, changed: make(chan struct{})}
		n.peers[node] = p
	}
	return p
}

// Dial opens a stream of a protocol to a member, over the connection that
// exists or a new one. The caller closes the stream.
//
// It waits for Run to start and blocks until the stream is open, ctx ends, or a
// handshake fails: *HandshakeError (a net.Error; Timeout if nobody answered for
// Config.HandshakeTimeout), *IdentityError, or net.ErrClosed after Run ended or
// Forget. It does not wait for the peer to accept: bytes can be written at
// once, and a refusal (ErrUnknownProtocol, ErrBusy) or a connection that turns
// out to be dead (*LostError) shows in Read and Write. With no connection the
// first bytes leave after one round trip, otherwise at once.
func (n *Net) Dial(ctx context.Context, node identity.NodeID, protocol string) (net.Conn, error) {
	header, err := appendHeader(nil, protocol)
	if err != nil {
		return nil, err
	}
	if node == n.self {
		return nil, fmt.Errorf("dial node %s: it is this node", node)
	}
	select {
	case <-n.ready:
	case <-n.done:
		return nil, &LostError{Node: node, Cause: "this node shut down"}
	case <-ctx.Done():
		return nil, fmt.Errorf("dial node %s: %w", node, context.Cause(ctx))
	}
	for {
		n.mu.Lock()
		if n.closing {
			n.mu.Unlock()
			return nil, &LostError{Node: node, Cause: "this node shut down"}
		}
		p := n.peer(node)
		if l, ok := p.pair.current(); ok {
			l.streams++
			n.mu.Unlock()
			s, err := n.open(ctx, l, header)
			if err != nil && ctx.Err() == nil && errors.Is(err, net.ErrClosed) {
				continue // it has just ended; serve takes it out
			}
			if err != nil {
				return nil, fmt.Errorf("dial node %s: %w", node, err)
			}
			return s, nil
		}
		a, changed := n.attempt(p), p.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-a.done:
			if a.err != nil {
				return nil, a.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("dial node %s: %w", node, context.Cause(ctx))
		}
	}
}

// open opens a stream on a connection whose stream count has been raised.
func (n *Net) open(ctx context.Context, l *link, header []byte) (*Stream, error) {
	stream, err := l.conn.OpenStreamSync(ctx)
	if err == nil {
		s := &Stream{stream: stream, link: l, net: n}
		if _, err = stream.Write(header); err == nil { // buffered: does not block
			return s, nil
		}
		s.refuse(streamAborted)
	} else {
		n.release(l)
	}
	if l.conn.Context().Err() != nil {
		n.mu.Lock()
		n.peer(l.node).pair.remove(l)
		n.mu.Unlock()
	}
	return nil, streamError(l.node, err)
}

// redialAfter is the age at which a dial is made anew by Nudge: its first
// datagrams had time to be answered on most paths.
const redialAfter = 100 * time.Millisecond

// Nudge sends a little on the connection to a member at once, if there is one: a
// stream of a protocol that ends right away. Use it when datagrams take another
// path, or when the path works again: what was lost is found out by the
// acknowledgement, a round trip later (RFC 9002 section 6.1), and not by a probe
// time-out that has doubled several times by then. A dial under way, whose first
// datagrams were lost, is made anew for the same reason. It does not block.
func (n *Net) Nudge(node identity.NodeID, protocol string) {
	header, err := appendHeader(nil, protocol)
	if err != nil {
		return
	}
	n.mu.Lock()
	p, known := n.peers[node]
	if !known || n.closing {
		n.mu.Unlock()
		return
	}
	l, ok := p.pair.current()
	if ok {
		l.streams++
	} else if a := p.attempt; a != nil && time.Since(a.since) >= redialAfter {
		close(a.done) // who waits for it dials again
		p.attempt = nil
	}
	n.mu.Unlock()
	if !ok {
		return
	}
	stream, err := l.conn.OpenStream()
	if err != nil { // it has ended, or has all its streams: then there is traffic
		n.release(l)
		return
	}
	s := &Stream{stream: stream, link: l, net: n}
	_, _ = s.stream.Write(header) // buffered: does not block
	_ = s.Close()
}

// attempt returns the dial under way or starts one. Called with mu held, n not
// closing.
func (n *Net) attempt(p *peer) *attempt {
	if p.attempt != nil {
		return p.attempt
	}
	a := &attempt{since: time.Now(), done: make(chan struct{})}
	p.attempt = a
	round, floor, of := p.pair.next()
	n.wg.Go(func() { n.dial(p, a, round, floor, of.tag()) })
	return a
}

// dial makes one connection.
func (n *Net) dial(p *peer, a *attempt, round, floor uint64, of tag) {
	config := pinned(n.tls, p.node)
	config.ServerName = roundName(round, floor, of)
	conn, err := n.transport.Dial(n.runCtx, n.cfg.Addr(p.node), config, n.quic)
	if err == nil {
		l := n.newLink(conn, p.node, linkKey{round: round, floor: floor, dialer: n.self})
		if l.key.instance.tag() != of {
			l.key.floor = 0 // it is about a former process of the peer
		}
		n.adopt(l, a)
		return
	}
	n.log.Debug("connection failed", "node", p.node, "round", round, "err", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.attempt != a {
		return // abandoned: nobody waits
	}
	p.attempt = nil
	a.err = dialError(p.node, err)
	if n.runCtx.Err() != nil {
		a.err = &LostError{Node: p.node, Cause: "this node shut down"}
	}
	close(a.done)
}

// Renew closes the connections to a member now, telling it, and lets waiting
// dials start afresh: use it when a path came back after an outage, because the
// back-off of the old connection (up to seconds) would go on. Streams on them
// end with *LostError on both sides. It is also for a member that has restarted
// or has another WireGuard key: rounds go on, since whether it is the same
// process shows in the handshake only.
func (n *Net) Renew(node identity.NodeID) { n.RenewOlder(node, 0) }

// RenewOlder is Renew for connections that are older than age: with the length
// of the outage as age, it spares what the other side has already made afresh.
// Dials under way begin again whatever their age: they began without a path,
// most likely their first datagrams went nowhere, and 200 ms pass until QUIC
// repeats them.
func (n *Net) RenewOlder(node identity.NodeID, age time.Duration) {
	n.drop(node, age, nil)
}

// Forget closes the connections to a member and ends waiting dials: use it when
// the member was removed. It may connect again later. Only two counters are
// kept.
func (n *Net) Forget(node identity.NodeID) {
	n.drop(node, 0, fmt.Errorf("dial node %s: %w", node, errForgotten))
}

// drop closes connections and abandons the dial under way, with the error that
// its waiters get; nil lets them dial again.
func (n *Net) drop(node identity.NodeID, age time.Duration, waiters error) {
	code := connRenewed
	if waiters != nil {
		code = connForgotten
	}
	now := time.Now()
	n.mu.Lock()
	p, ok := n.peers[node]
	if !ok || n.closing {
		n.mu.Unlock()
		return
	}
	var old []*link
	for _, e := range p.pair.links {
		if now.Sub(e.link.since) >= age {
			old = append(old, e.link)
		}
	}
	for _, l := range old {
		p.pair.remove(l)
	}
	if a := p.attempt; a != nil {
		a.err = waiters
		close(a.done)
		p.attempt = nil
	}
	n.mu.Unlock()
	for _, l := range old {
		_ = l.conn.CloseWithError(code, "")
	}
}
