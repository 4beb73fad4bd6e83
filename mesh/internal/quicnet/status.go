package quicnet

import (
	"context"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Connection is what is seen of the connection to one member.
type Connection struct {
	Node     identity.NodeID
	Dialed   bool          // by this node
	Age      time.Duration // since the handshake
	RTT      time.Duration // smoothed; 0 until measured
	Streams  int           // open, or waiting for Accept
	Draining int           // further connections that finish their streams
	Sent     uint64        // bytes of QUIC packets, repeats included
	Received uint64        // bytes of QUIC packets
}

// Connections returns the connections, sorted by NodeID.
func (n *Net) Connections() []Connection {
	now := time.Now()
	n.mu.Lock()
	var out []Connection
	var links []*link
	for node, p := range n.peers {
		l, ok := p.pair.current()
		if !ok {
			continue
		}
		links = append(links, l)
		out = append(out, Connection{
			Node:     node,
			Dialed:   l.key.dialer == n.self,
			Age:      now.Sub(l.since),
			Streams:  l.streams,
			Draining: len(p.pair.links) - 1,
		})
	}
	n.mu.Unlock()
	for i, l := range links {
		s := l.conn.ConnectionStats()
		out[i].RTT, out[i].Sent, out[i].Received = s.SmoothedRTT, s.BytesSent, s.BytesReceived
	}
	slices.SortFunc(out, func(a, b Connection) int { return a.Node.Compare(b.Node) })
	return out
}

// contextError is why a connection ended.
func contextError(l *link) error {
	return streamError(l.node, context.Cause(l.conn.Context()))
}
