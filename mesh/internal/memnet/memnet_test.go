package memnet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	a, b = memnet.AddrOf(identity.NodeID{1}), memnet.AddrOf(identity.NodeID{2})
)

func TestDelayAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: 10 * time.Millisecond}})
		from, to := hub.Conn(a), hub.Conn(b)
		defer from.Close()
		defer to.Close()
		begin := time.Now()
		p := []byte{0}
		for i := range 100 {
			p[0] = byte(i)
			if n, err := from.WriteTo(p, b); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		buf := make([]byte, 10)
		for i := range 100 {
			n, sender, err := to.ReadFrom(buf)
			if n != 1 || sender != a || err != nil || buf[0] != byte(i) {
				t.Fatalf("datagram %d: %v from %v, %v", i, buf[:n], sender, err)
			}
		}
		if d := time.Since(begin); d != 10*time.Millisecond {
			t.Errorf("after %v, want 10ms", d)
		}
	})
}

func TestLossCutAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Queue: 1000, MTU: 100})
		from, to := hub.Conn(a), hub.Conn(b)
		defer from.Close()
		defer to.Close()
		send := func(count, size int) {
			for range count {
				_, _ = from.WriteTo(make([]byte, size), b)
			}
		}
		hub.SetDirection(a, b, memnet.Link{Loss: 0.5})
		send(200, 10)
		s := hub.Stats()
		if s.Sent != 200 || s.Lost+s.Delivered != 200 || s.Lost < 60 || s.Lost > 140 {
			t.Errorf("half lost: %+v", s)
		}
		hub.SetLink(a, b, memnet.Link{})
		hub.Cut([]net.Addr{a}, []net.Addr{b})
		send(10, 10)
		hub.Heal([]net.Addr{a}, []net.Addr{b})
		send(5, 101)
		send(2000, 100)
		_, _ = from.WriteTo([]byte{1}, memnet.AddrOf(identity.NodeID{9}))
		got := hub.Stats()
		want := memnet.Stats{
			Sent: 2216, Delivered: 1000, Lost: s.Lost + 10, Nobody: 1,
			Overflow: 2000 - (1000 - s.Delivered), Oversize: 5, Largest: 101,
		}
		if got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

func TestDeadlineAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{})
		c := hub.Conn(a)
		buf := make([]byte, 1)
		begin := time.Now()
		_ = c.SetReadDeadline(begin.Add(time.Second))
		_, _, err := c.ReadFrom(buf)
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || time.Since(begin) != time.Second {
			t.Errorf("deadline: %v after %v", err, time.Since(begin))
		}
		_ = c.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			_ = c.SetReadDeadline(time.Now())
		}()
		if _, _, err := c.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline set while blocked: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			_ = c.Close()
		}()
		if _, _, err := c.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while blocked: %v", err)
		}
		if _, err := c.WriteTo(buf, b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestRestartBehindTheSameAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{})
		udp := func(port int) net.Addr { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port} }
		first, other := hub.Conn(udp(1)), hub.Conn(udp(2))
		second := hub.Conn(udp(1)) // equal, not identical
		if _, _, err := first.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the first process reads: %v", err)
		}
		_ = first.Close() // must not take the second off the hub
		_, _ = other.WriteTo([]byte("x"), udp(1))
		if n, from, err := second.ReadFrom(make([]byte, 9)); n != 1 || err != nil || from.String() != "192.0.2.1:2" {
			t.Errorf("the second process reads %d bytes from %v, %v", n, from, err)
		}
		_ = second.Close()
		_ = other.Close()
	})
}

// A router lets in what answers, by the port that it gave to the destination,
// as long as it remembers; and nothing goes to the address behind it.
func TestNAT(t *testing.T) {
	inside, outside := netip.MustParseAddrPort("192.168.1.2:51821"), netip.MustParseAddr("198.18.1.2")
	one, other := netip.MustParseAddrPort("192.0.2.1:51821"), netip.MustParseAddrPort("192.0.2.2:51821")
	for _, symmetric := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hub := memnet.New(memnet.Config{})
			in := hub.UDPBehind(inside, memnet.NAT{Public: outside, Symmetric: symmetric, Timeout: 10 * time.Second})
			a, b := hub.UDP(one), hub.UDP(other)
			for _, u := range []*memnet.UDP{in, a, b} {
				defer u.Close()
			}
			got := func(u *memnet.UDP) netip.AddrPort {
				_ = u.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, from, _, _, _ := u.ReadFrom(make([]byte, 10))
				return from
			}
			send := func(from *memnet.UDP, to netip.AddrPort) {
				if err := from.WriteTo([]byte{1}, to, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
			}
			send(in, one)
			seen := got(a)
			send(in, other)
			if same := got(b) == seen; seen.Addr() != outside || same == symmetric {
				t.Errorf("symmetric %v: seen at %v by one, at the same by the other: %v", symmetric, seen, same)
			}
			send(a, seen)
			if got(in) != one {
				t.Error("an answer was not let in")
			}
			send(a, inside)
			if got(in).IsValid() {
				t.Error("a datagram reached the address behind the router")
			}
			if symmetric {
				send(b, seen)
				if got(in).IsValid() {
					t.Error("let in from elsewhere")
				}
			}
			time.Sleep(10 * time.Second)
			send(a, seen)
			if got(in).IsValid() {
				t.Error("let in after it was forgotten")
			}
		})
	}
}
