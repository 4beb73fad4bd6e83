package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serialspan/serialspan/mesh/identity"
)

var errClosing = errors.New("gossip shuts down")

// transport routes memberlist's packets and streams by NodeID. Its goroutines
// (readPackets, acceptStreams) are Run's.
type transport struct {
	cfg     *Config
	gossip  *Gossip
	seals   sealer
	packets chan *memberlist.Packet
	streams chan net.Conn
	stop    chan struct{} // closed by halt
	closing atomic.Bool

	mu       sync.Mutex
	open     map[*trackedConn]struct{}
	prepared map[identity.NodeID][]net.Conn // dialed by Join, for memberlist to find
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(g *Gossip) *transport {
	return &transport{
		cfg:      &g.cfg,
		gossip:   g,
		seals:    sealer{label: []byte(g.cfg.Label)},
		packets:  make(chan *memberlist.Packet, packetQueue),
		streams:  make(chan net.Conn),
		stop:     make(chan struct{}),
		open:     make(map[*trackedConn]struct{}),
		prepared: make(map[identity.NodeID][]net.Conn),
	}
}

// readPackets returns when halt is called (nil) or Packets fails.
func (t *transport) readPackets() error {
	buf := make([]byte, 2*MaxPacket)
	for {
		n, from, err := t.cfg.Packets.ReadFrom(buf)
		if t.closing.Load() {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read packets: %w", err)
		}
		id, ok := t.cfg.NodeOf(from)
		if !ok || n == 0 {
			continue
		}
		plain, err := t.seals.open(buf[:n], t.seals.label)
		if err != nil {
			t.cfg.Logger.Debug("gossip packet refused", "node", id, "err", err)
			continue
		}
		t.gossip.heardFrom(id, plain)
		p := &memberlist.Packet{Buf: plain, From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.stop:
			return nil
		}
	}
}

// acceptStreams returns when ctx ends (nil) or AcceptStream fails.
func (t *transport) acceptStreams(ctx context.Context) error {
	for {
		conn, _, err := t.cfg.AcceptStream(ctx)
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept streams: %w", err)
		}
		select {
		case t.streams <- t.track(newSealedConn(conn, &t.seals, false)):
		case <-ctx.Done():
			_ = conn.Close()
			return nil
		}
	}
}

// halt stops packets in both directions; memberlist's own goroutines go on.
func (t *transport) halt() {
	if t.closing.Swap(true) {
		return
	}
	close(t.stop)
	_ = t.cfg.Packets.SetReadDeadline(time.Now()) // that readPackets sees closing
}

// FinalAdvertiseAddr returns our mesh address.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.cfg.Address(t.cfg.Self).AsSlice(), port, nil
}

// WriteToAddress sends a packet to a member by name. What the plane refuses is
// a lost packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.closing.Load() {
		return time.Time{}, errClosing
	}
	id, err := identity.ParseNodeID(a.Name)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	if b = t.gossip.divert(id, b); b != nil {
		t.write(id, b)
	}
	return time.Now(), nil
}

// write seals a packet and sends it, best effort.
func (t *transport) write(to identity.NodeID, packet []byte) {
	sealed := t.seals.seal(make([]byte, 0, len(packet)+sealOverhead), packet, t.seals.label)
	if _, err := t.cfg.Packets.WriteTo(sealed, t.cfg.Addr(to)); err != nil {
		t.cfg.Logger.Debug("gossip packet lost", "node", to, "err", err)
	}
}

// DialAddressTimeout gives memberlist the stream that Join has dialed.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	id, err := identity.ParseNodeID(a.Name)
	if err != nil {
		return nil, fmt.Errorf("dial stream: %w", err)
	}
	t.mu.Lock()
	if ready := t.prepared[id]; len(ready) > 0 {
		conn := ready[0]
		t.withdraw(id, conn)
		t.mu.Unlock()
		return conn, nil
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.dial(ctx, id)
}

// prepare keeps a stream for the next DialAddressTimeout to id, until the
// returned function is called.
func (t *transport) prepare(id identity.NodeID, conn net.Conn) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prepared[id] = append(t.prepared[id], conn)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.withdraw(id, conn)
	}
}

// withdraw is called with mu held.
func (t *transport) withdraw(id identity.NodeID, conn net.Conn) {
	rest := slices.DeleteFunc(t.prepared[id], func(c net.Conn) bool { return c == conn })
	if t.prepared[id] = rest; len(rest) == 0 {
		delete(t.prepared, id)
	}
}

func (t *transport) dial(ctx context.Context, id identity.NodeID) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer t.cancelAtStop(cancel)()
	conn, err := t.cfg.DialStream(ctx, id)
	if err != nil {
		return nil, err
	}
	return t.track(newSealedConn(conn, &t.seals, true)), nil
}

// cancelAtStop cancels when halt is called, until the returned function is.
func (t *transport) cancelAtStop(cancel func()) (end func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-t.stop:
			cancel()
		case <-over:
		}
	})
	return func() {
		close(over)
		wg.Wait()
	}
}

// WriteTo is not used: names are required.
func (t *transport) WriteTo([]byte, string) (time.Time, error) {
	return time.Time{}, errors.New("send packet: no name")
}

// DialTimeout is not used: names are required.
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errors.New("dial stream: no name")
}

// PacketCh returns the received packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the accepted streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes all streams, so that memberlist's goroutines let go of them.
func (t *transport) Shutdown() error {
	t.halt()
	t.mu.Lock()
	open := make([]*trackedConn, 0, len(t.open))
	for c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	return nil
}

// trackedConn is a stream that Shutdown closes.
type trackedConn struct {
	net.Conn
	transport *transport
}

func (t *transport) track(conn net.Conn) *trackedConn {
	c := &trackedConn{conn, t}
	t.mu.Lock()
	t.open[c] = struct{}{}
	t.mu.Unlock()
	if t.closing.Load() {
		_ = c.Close()
	}
	return c
}

// Close closes the stream and forgets it.
func (c *trackedConn) Close() error {
	c.transport.mu.Lock()
	delete(c.transport.open, c)
	c.transport.mu.Unlock()
	return c.Conn.Close()
}
