package quicnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

func TestDialErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		begin := time.Now()
		_, err := a.Dial(t.Context(), b.id, "echo")
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("dial without an answer: %v, want a time-out", err)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("after %v, want 5s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, b.id, "echo"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial with a deadline: %v", err)
		}
		if _, err := a.Dial(t.Context(), a.id, "echo"); err == nil {
			t.Error("a node has dialed itself")
		}
		go func() {
			time.Sleep(time.Second)
			a.stop()
		}()
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial while Run ends: %v, want net.ErrClosed", err)
		}
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial after Run: %v, want net.ErrClosed", err)
		}
		if _, _, err := a.Accept(t.Context(), "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after Run: %v, want net.ErrClosed", err)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
	})
}

func TestIdleTimeoutIsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "hello")
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		_, err := c.Read(make([]byte, 1))
		var lost *quicnet.LostError
		var ne net.Error
		if !errors.As(err, &lost) || !errors.Is(err, net.ErrClosed) || errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("read: %v, want a LostError and no time-out of the caller's", err)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
		ids := who(t, 2)
		a := start(t, hub, ids[0], ids[0].ID(), func(c *quicnet.Config) { c.KeepAlive = 10 * time.Second })
		b := start(t, hub, ids[1], ids[1].ID(), nil)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "hello")
		time.Sleep(10 * time.Minute)
		roundTrip(t, c, "still here")
	})
}

func TestLossyNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay, Jitter: oneWay, Loss: 0.1}, Seed: 7})
		ids := who(t, 3)
		var nodes []*node
		for _, id := range ids {
			nodes = append(nodes, start(t, hub, id, id.ID(), nil))
		}
		want := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
		var wg sync.WaitGroup
		for _, from := range nodes {
			for _, to := range nodes {
				if from == to {
					continue
				}
				wg.Go(func() {
					c := dial(t, from, to)
					defer c.Close()
					go func() {
						_, _ = c.Write(want)
						_ = c.(*quicnet.Stream).CloseWrite()
					}()
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("read %d bytes, %v", len(got), err)
					}
				})
			}
		}
		wg.Wait()
	})
}

// failing is a PacketConn whose writes fail for a while.
type failing struct {
	net.PacketConn
	mu   sync.Mutex
	fail bool
}

func (f *failing) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *failing) WriteTo(p []byte, a net.Addr) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return 0, errors.New("no path")
	}
	return f.PacketConn.WriteTo(p, a)
}

func TestWriteErrorIsALostDatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
		ids := who(t, 2)
		var f *failing
		a := start(t, hub, ids[0], ids[0].ID(), func(c *quicnet.Config) {
			f = &failing{PacketConn: c.PacketConn}
			c.PacketConn = f
		})
		b := start(t, hub, ids[1], ids[1].ID(), nil)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "before")
		f.set(true)
		go func() {
			time.Sleep(2 * time.Second)
			f.set(false)
		}()
		roundTrip(t, c, "during")
		if a.LostWrites() == 0 {
			t.Error("no lost write was counted")
		}
	})
}

func TestBrokenPacketConnEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := who(t, 1)[0]
		conn := memnet.New(memnet.Config{}).Conn(memnet.AddrOf(id.ID()))
		n, err := quicnet.New(quicnet.Config{Identity: id, PacketConn: conn, Addr: memnet.AddrOf, NodeOf: memnet.NodeOf})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			_ = conn.Close()
		}()
		if err := n.Run(t.Context()); err == nil {
			t.Error("Run returned nil though its PacketConn is closed")
		}
	})
}
