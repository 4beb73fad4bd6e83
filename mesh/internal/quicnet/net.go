package quicnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Net dials and accepts streams by member. Make it with New, run it with Run;
// it cannot be run twice. It is safe for concurrent use.
type Net struct {
	cfg      Config
	self     identity.NodeID
	instance instance
	tls      *tls.Config
	quic     *quic.Config
	log      *slog.Logger

	transport *quic.Transport
	ready     chan struct{}      // closed when Run has the transport listening
	done      chan struct{}      // closed when Run ends
	runCtx    context.Context    // ends dials; written before ready is closed
	cancel    context.CancelFunc // of runCtx
	wg        sync.WaitGroup     // all goroutines but Run's own
	lost      atomic.Uint64

	mu        sync.Mutex
	started   bool
	closing   bool
	peers     map[identity.NodeID]*peer
	protocols map[string]chan *Stream
}

// New checks the configuration and makes the node's certificate. It starts
// nothing and sends nothing.
func New(cfg Config) (*Net, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	own, err := newInstance()
	if err != nil {
		return nil, err
	}
	cert, err := certificate(cfg.Identity, own)
	if err != nil {
		return nil, err
	}
	key, err := resetKey(cfg.Identity)
	if err != nil {
		return nil, err
	}
	n := &Net{
		cfg:       cfg,
		self:      cfg.Identity.ID(),
		instance:  own,
		tls:       baseTLS(cert),
		log:       cfg.Logger,
		ready:     make(chan struct{}),
		done:      make(chan struct{}),
		peers:     make(map[identity.NodeID]*peer),
		protocols: make(map[string]chan *Stream),
	}
	n.quic = &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           cfg.HandshakeTimeout,
		MaxIdleTimeout:                 cfg.IdleTimeout,
		KeepAlivePeriod:                cfg.KeepAlive,
		InitialStreamReceiveWindow:     initialStreamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: initialConnWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		MaxIncomingStreams:             int64(cfg.MaxIncomingStreams),
		MaxIncomingUniStreams:          -1, // none
		InitialPacketSize:              PacketSize,
		DisablePathMTUDiscovery:        true,
		GetConfigForClient:             n.admit,
	}
	n.transport = &quic.Transport{
		Conn:                             &lossyConn{PacketConn: cfg.PacketConn, lost: &n.lost},
		ConnectionIDLength:               connectionIDSize,
		StatelessResetKey:                key,
		DisableVersionNegotiationPackets: true,
	}
	return n, nil
}

// admit refuses connections from addresses that are no member's, before any
// cryptography.
func (n *Net) admit(info *quic.ClientInfo) (*quic.Config, error) {
	if node, ok := n.cfg.NodeOf(info.RemoteAddr); !ok || node == n.self {
		return nil, fmt.Errorf("find node of %q: not a member's address", info.RemoteAddr)
	}
	return n.quic, nil
}

// Run serves until ctx ends, then closes every connection, telling the peers,
// joins all goroutines and returns nil. It returns an error if the PacketConn
// fails.
func (n *Net) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.started {
		n.mu.Unlock()
		return errors.New("run quicnet: it has run before")
	}
	n.started = true
	n.mu.Unlock()
	defer close(n.done)

	n.runCtx, n.cancel = context.WithCancel(ctx)
	defer n.cancel()
	listener, err := n.transport.Listen(serverTLS(n.tls, n.cfg.NodeOf), n.quic)
	if err != nil {
		_ = n.transport.Close() // what Listen has started; there is no better error
		return fmt.Errorf("listen for connections: %w", err)
	}
	close(n.ready)
	for {
		conn, err := listener.Accept(n.runCtx)
		if err != nil {
			n.shutdown(listener)
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept connections: %w", err)
		}
		n.accepted(conn)
	}
}

// shutdown closes everything and joins all goroutines.
func (n *Net) shutdown(listener *quic.Listener) {
	n.mu.Lock()
	n.closing = true
	var conns []*quic.Conn
	for _, p := range n.peers {
		for _, e := range p.pair.links {
			conns = append(conns, e.link.conn)
		}
	}
	n.mu.Unlock()
	n.cancel()
	_ = listener.Close() // always nil
	for {
		conn, err := listener.Accept(context.Background()) // returns at once: closed
		if err != nil {
			break
		}
		conns = append(conns, conn)
	}
	var closers sync.WaitGroup
	for _, c := range conns {
		closers.Go(func() { _ = c.CloseWithError(connShutdown, "") })
	}
	closers.Wait()
	if err := n.transport.Close(); err != nil {
		n.log.Debug("transport not closed", "err", err)
	}
	n.wg.Wait()
}

// Listen makes the node accept streams of a protocol: 1 to 31 printable ASCII
// characters. Streams that come before Listen are refused with
// ErrUnknownProtocol, so call it before Run. A second call changes nothing.
func (n *Net) Listen(protocol string) error {
	if err := checkProtocol(protocol); err != nil {
		return err
	}
	n.queue(protocol)
	return nil
}

func (n *Net) queue(protocol string) chan *Stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	q, ok := n.protocols[protocol]
	if !ok {
		q = make(chan *Stream, n.cfg.Backlog)
		n.protocols[protocol] = q
	}
	return q
}

// Accept returns the next stream of a protocol and the member that dialed it,
// proven by its key. The caller closes the stream. It listens first if Listen
// was not called. It blocks until a stream comes, ctx ends or Run ends
// (net.ErrClosed).
func (n *Net) Accept(ctx context.Context, protocol string) (net.Conn, identity.NodeID, error) {
	if err := checkProtocol(protocol); err != nil {
		return nil, identity.NodeID{}, err
	}
	q := n.queue(protocol)
	select {
	case s := <-q:
		return s, s.link.node, nil
	case <-ctx.Done():
		return nil, identity.NodeID{}, fmt.Errorf("accept stream %q: %w", protocol, context.Cause(ctx))
	case <-n.done:
		return nil, identity.NodeID{}, fmt.Errorf("accept stream %q: %w", protocol, net.ErrClosed)
	}
}

// LostWrites returns how many datagrams the PacketConn refused.
func (n *Net) LostWrites() uint64 { return n.lost.Load() }
