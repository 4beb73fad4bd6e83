package attach

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/session"
)

// listen listens until ctx is done (nil) or the listener fails. One client at
// a time has the device; the session begins with its connection and ends with
// it. Another client is closed at once, without a word: nothing but the
// device's bytes enters a raw stream.
func (t *attachment) listen(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", t.spec.address())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	defer func() { _ = listener.Close() }()
	t.setUp(listener.Addr().String(), nil)
	t.log.Info("attachment listens", "address", listener.Addr().String())
	var clients sync.WaitGroup
	defer clients.Wait()
	free := make(chan struct{}, 1)
	free <- struct{}{}
	serve := t.serveTCP
	if t.spec.RFC2217 != "" {
		serve = t.serveRFC2217
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept client: %w", err)
		}
		select {
		case <-free:
		default:
			t.log.Info("second client refused: the attachment serves one at a time", "address", conn.RemoteAddr().String())
			_ = conn.Close()
			continue
		}
		clients.Go(func() {
			serve(ctx, conn, &clients)
			free <- struct{}{}
		})
	}
}

// serveTCP carries one client, as the reader of its connection.
func (t *attachment) serveTCP(ctx context.Context, conn net.Conn, workers *sync.WaitGroup) {
	u := t.begin(ctx, newTCPSink(conn), t.spec.Line.String(), workers, func(error) { _ = conn.Close() })
	buf := make([]byte, session.MaxData)
	for {
		n, err := conn.Read(buf)
		if n > 0 && u.Send(buf[:n]) != nil {
			break // the use is over
		}
		if err != nil {
			break
		}
	}
	u.Finish(u.HoldTime())
	_ = conn.Close()
}

// tcpSink is a client's connection as the session writes to it.
type tcpSink struct {
	net.Conn
	raw syscall.RawConn // nil: TryWrite takes nothing, all goes by Write
}

func newTCPSink(conn net.Conn) *tcpSink {
	s := &tcpSink{Conn: conn}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

func (s *tcpSink) TryWrite(p []byte) (n int, err error) {
	if s.raw == nil {
		return 0, nil
	}
	callErr := s.raw.Control(func(fd uintptr) {
		n, err = unix.Write(int(fd), p)
	})
	switch {
	case callErr != nil:
		return 0, callErr
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0, nil
	}
	return max(n, 0), err
}

func (s *tcpSink) Apply(context.Context, session.Control) {}

func (s *tcpSink) Purge(uint64) {}
