package quicnet

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	defaultIdleTimeout      = 30 * time.Second
	defaultHandshakeTimeout = 5 * time.Second
	defaultIncomingStreams  = 256
	defaultBacklog          = 64

	// headerTimeout is how long an accepted stream may take to say its protocol.
	headerTimeout = 10 * time.Second

	// drainLinger is how long a connection that lost a tie stays although no
	// stream uses it: long enough for a stream that the peer opened before it
	// saw the tie.
	drainLinger = 3 * time.Second

	// The windows bound what a peer can make us buffer. A session never has
	// more than 256 KiB unacknowledged, so a stream never needs more.
	initialStreamWindow = 64 << 10
	maxStreamWindow     = 512 << 10
	initialConnWindow   = 128 << 10
	maxConnWindow       = 1 << 20

	connectionIDSize = 8
)

// PacketSize is how long a packet is at most, bytes: RFC 9000 section 14, the
// plane's limit. It does not grow, path MTU discovery is off.
const PacketSize = 1200

// Config sets up a Net. Identity, PacketConn, Addr and NodeOf are required.
type Config struct {
	// Identity signs the certificate and names this node.
	Identity *identity.Identity

	// PacketConn carries datagrams of at most 1200 bytes; it may lose, double
	// and reorder them. ReadFrom must be unblocked by SetReadDeadline: that is
	// how Run stops reading. An error of WriteTo counts as a lost datagram.
	// Run does not close it.
	PacketConn net.PacketConn

	// Addr gives the address of a member. Addresses with equal String are the
	// same member.
	Addr func(identity.NodeID) net.Addr

	// NodeOf gives the member of an address. It must be right: a peer is
	// accepted only if its key hashes to this NodeID.
	NodeOf func(net.Addr) (identity.NodeID, bool)

	// Logger gets debug events; default discards.
	Logger *slog.Logger

	// IdleTimeout closes a connection on which nothing is received; the smaller
	// one of both sides counts. Default 30 s.
	IdleTimeout time.Duration

	// KeepAlive is the period of pings on a silent connection; default 0 is none.
	KeepAlive time.Duration

	// HandshakeTimeout is how long a dial goes on without hearing anything;
	// twice that is its limit. Default 5 s.
	HandshakeTimeout time.Duration

	// MaxIncomingStreams is how many streams one peer may have open. Default 256.
	MaxIncomingStreams int

	// Backlog is how many streams of one protocol wait for Accept; more are
	// refused with ErrBusy. Default 64.
	Backlog int
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Identity == nil:
		return c, errors.New("configure quicnet: Identity is missing")
	case c.PacketConn == nil:
		return c, errors.New("configure quicnet: PacketConn is missing")
	case c.Addr == nil || c.NodeOf == nil:
		return c, errors.New("configure quicnet: Addr or NodeOf is missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = defaultIdleTimeout
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshakeTimeout
	}
	if c.MaxIncomingStreams == 0 {
		c.MaxIncomingStreams = defaultIncomingStreams
	}
	if c.Backlog == 0 {
		c.Backlog = defaultBacklog
	}
	return c, nil
}
