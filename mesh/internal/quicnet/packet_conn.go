package quicnet

import (
	"errors"
	"net"
	"sync/atomic"
)

// lossyConn hands a PacketConn to quic-go so that an error of WriteTo is a lost
// datagram: quic-go would close the connection, though the plane may have a
// path again a moment later. It has buffer setters that do nothing because
// quic-go prints a warning to the standard log without them.
type lossyConn struct {
	net.PacketConn
	lost *atomic.Uint64
}

// WriteTo fails only with net.ErrClosed.
func (c *lossyConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(p, addr)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.lost.Add(1)
		return len(p), nil
	}
	return n, err
}

// SetReadBuffer does nothing.
func (c *lossyConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (c *lossyConn) SetWriteBuffer(int) error { return nil }
