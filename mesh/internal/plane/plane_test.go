package plane_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/plane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair() (a, b *plane.Plane) {
	ida, idb := identity.NodeID{1}, identity.NodeID{2}
	a = plane.New(plane.Config{Self: ida, Send: func(to identity.NodeID, k plane.Kind, p []byte, _ bool) error {
		if to != idb {
			return plane.ErrNotMember
		}
		b.Deliver(ida, k, p)
		return nil
	}})
	b = plane.New(plane.Config{Self: idb, Send: func(to identity.NodeID, k plane.Kind, p []byte, _ bool) error {
		a.Deliver(idb, k, p)
		return nil
	}})
	return a, b
}

func TestKindsDoNotMix(t *testing.T) {
	a, b := pair()
	to := plane.Addr{ID: identity.NodeID{2}}
	for kind, text := range map[*plane.Conn]string{a.Gossip(): "gossip", a.QUIC(): "quic"} {
		if _, err := kind.WriteTo([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	for kind, want := range map[*plane.Conn]string{b.Gossip(): "gossip", b.QUIC(): "quic"} {
		n, from, err := kind.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want || from != (plane.Addr{ID: identity.NodeID{1}}) {
			t.Errorf("read %q from %v, %v; want %q", buf[:n], from, err, want)
		}
	}
	b.Deliver(identity.NodeID{1}, 77, []byte("from the future"))
	if _, unknown := b.Dropped(); unknown != 1 {
		t.Errorf("unknown kinds counted: %d", unknown)
	}
}

func TestSlowReaderDropsAndCounts(t *testing.T) {
	a, b := pair()
	for range 1000 {
		if _, err := a.QUIC().WriteTo([]byte("x"), plane.Addr{ID: identity.NodeID{2}}); err != nil {
			t.Fatal(err)
		}
	}
	if slow, _ := b.Dropped(); slow != 1000-256 {
		t.Errorf("dropped %d; want all beyond the queue of 256", slow)
	}
}

func TestWriteErrors(t *testing.T) {
	a, _ := pair()
	if _, err := a.QUIC().WriteTo(nil, &net.UDPAddr{}); !errors.Is(err, plane.ErrNotMember) {
		t.Errorf("write to a UDP address: %v", err)
	}
	if _, err := a.QUIC().WriteTo(nil, plane.Addr{ID: identity.NodeID{9}}); !errors.Is(err, plane.ErrNotMember) {
		t.Errorf("write to a stranger: %v", err)
	}
	a.QUIC().Close()
	if _, err := a.QUIC().WriteTo(nil, plane.Addr{ID: identity.NodeID{2}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pair()
		c, buf := a.QUIC(), make([]byte, 10)
		start := time.Now()
		c.SetReadDeadline(start.Add(time.Second))
		if _, _, err := c.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		c.SetReadDeadline(time.Time{})
		result := make(chan error, 1)
		go func() {
			_, _, err := c.ReadFrom(buf)
			result <- err
		}()
		synctest.Wait()
		c.SetReadDeadline(time.Now()) // wakes a reader that had none
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("woken read: %v", err)
		}
		c.Close()
		if _, _, err := c.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestPassedOnMessages(t *testing.T) {
	type call struct {
		from, other identity.NodeID
		message     string
	}
	var relay, relayed []call
	note := func(to *[]call) plane.PassFunc {
		return func(from, other identity.NodeID, message []byte) {
			*to = append(*to, call{from, other, string(message)})
		}
	}
	p := plane.New(plane.Config{Relay: note(&relay), Relayed: note(&relayed)})
	a, c := identity.NodeID{1}, identity.NodeID{3}
	p.Deliver(a, plane.Relay, append(c[:], "to c"...))
	p.Deliver(a, plane.Relayed, append(c[:], "from c"...))
	p.Deliver(a, plane.Relay, c[:])    // nothing in it
	p.Deliver(a, plane.Relayed, c[:5]) // cut
	if len(relay) != 1 || relay[0] != (call{a, c, "to c"}) || len(relayed) != 1 || relayed[0] != (call{a, c, "from c"}) {
		t.Errorf("relay %v, relayed %v", relay, relayed)
	}
	if _, unknown := p.Dropped(); unknown != 2 {
		t.Errorf("%d malformed messages counted; want 2", unknown)
	}
}
