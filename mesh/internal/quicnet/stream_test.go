package quicnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

func TestUnknownProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "nonsense")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, quicnet.ErrUnknownProtocol) {
			t.Errorf("Read: %v, want ErrUnknownProtocol", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, quicnet.ErrUnknownProtocol) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write: %v, want ErrUnknownProtocol and net.ErrClosed", err)
		}
		for _, bad := range []string{"", "has space", string(make([]byte, 32)), "a name that is longer than thirty-one"} {
			if _, err := a.Dial(t.Context(), b.id, bad); err == nil {
				t.Errorf("protocol %q was taken", bad)
			}
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{})
		ids := who(t, 2)
		a := start(t, hub, ids[0], ids[0].ID(), nil)
		b := start(t, hub, ids[1], ids[1].ID(), func(c *quicnet.Config) { c.Backlog = 2 })
		var refused int
		for range 3 { // nobody accepts "sink"
			c, err := a.Dial(t.Context(), b.id, "sink")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, quicnet.ErrBusy) {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d streams refused, want 1", refused)
		}
	})
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c := dial(t, a, b)
		defer c.Close()
		want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
		go func() {
			_, _ = c.Write(want)
			_ = c.(*quicnet.Stream).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after CloseWrite: %v, want net.ErrClosed", err)
		}
	})
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := b.Accept(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := c.Write(make([]byte, 4<<20)); errs <- err }()
		time.Sleep(time.Second) // both are blocked: nobody reads
		_ = c.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("blocked call: %v, want net.ErrClosed", err)
			}
		}
		if _, err := io.Copy(io.Discard, s); !errors.Is(err, quicnet.ErrAborted) {
			t.Errorf("peer read %v, want ErrAborted: the write was cut", err)
		}
		time.Sleep(time.Second)
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("peer wrote: %v, want net.ErrClosed", err)
		}
		_ = s.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 30000)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		s, _, err := b.Accept(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if n, err := io.Copy(io.Discard, s); n != 30000 || err != nil {
			t.Errorf("peer read %d bytes, %v; want 30000", n, err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for name, call := range map[string]func() error{
			"read":  func() error { _, err := c.Read(make([]byte, 1)); return err },
			"write": func() error { _, err := c.Write(make([]byte, 4<<20)); return err },
		} {
			begin := time.Now()
			_ = c.SetDeadline(begin.Add(time.Second))
			err := call()
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v, want a time-out", name, err)
			}
			if d := time.Since(begin); d != time.Second {
				t.Errorf("%s: after %v, want 1s", name, d)
			}
			_ = c.SetDeadline(time.Time{})
		}
		go func() {
			time.Sleep(time.Second)
			_ = c.SetReadDeadline(time.Now()) // unblocks
		}()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read was not unblocked")
		}
	})
}

// TestStreamsAreGivenBack: closed and refused streams do not count for ever.
func TestStreamsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: time.Millisecond}})
		ids := who(t, 2)
		few := func(c *quicnet.Config) { c.MaxIncomingStreams = 4 }
		a := start(t, hub, ids[0], ids[0].ID(), few)
		b := start(t, hub, ids[1], ids[1].ID(), few)
		for range 50 {
			c := dial(t, a, b)
			roundTrip(t, c, "hello")
			_ = c.Close()
			c, err := b.Dial(t.Context(), a.id, "nonsense")
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close() // whether or not the refusal has come
		}
		time.Sleep(time.Second)
		for _, n := range []*node{a, b} {
			if got := n.Connections(); len(got) != 1 || got[0].Streams != 0 {
				t.Errorf("connections: %+v, want one without streams", got)
			}
		}
		var open []net.Conn
		for range 4 {
			open = append(open, dial(t, a, b))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, b.id, "echo"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stream too many: %v, want to wait for one", err)
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
}
