package underlay_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/underlay"
)

func open(t *testing.T, address string) *underlay.Socket {
	t.Helper()
	s, err := underlay.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return s
}

// A wildcard socket answers from the address that was spoken to, whichever of
// the machine's addresses that is. All of 127.0.0.0/8 is ours on Linux.
func TestReplyLeavesFromTheAddressSpokenTo(t *testing.T) {
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":0", "0.0.0.0:0"} {
		t.Run(listen, func(t *testing.T) {
			server := open(t, listen)
			client := open(t, "127.0.0.1:0")
			for _, target := range []string{"127.0.0.1", "127.7.7.7"} {
				to := netip.AddrPortFrom(netip.MustParseAddr(target), server.LocalAddr().Port())
				if err := client.WriteTo([]byte("hello"), to, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n, from, local, link, err := server.ReadFrom(buf)
				if err != nil || string(buf[:n]) != "hello" || from != client.LocalAddr() || local.String() != target || link != loopback.Index {
					t.Fatalf("server read %q from %v at %v of link %d, %v; want hello from %v at %v of link %d", buf[:n], from, local, link, err, client.LocalAddr(), target, loopback.Index)
				}
				if err := server.WriteTo([]byte("answer"), from, local); err != nil {
					t.Fatal(err)
				}
				n, from, _, _, err = client.ReadFrom(buf)
				if err != nil || string(buf[:n]) != "answer" || from != to {
					t.Fatalf("client read %q from %v, %v; want answer from %v", buf[:n], from, err, to)
				}
			}
		})
	}
}

func TestSourceAddressThatHasGone(t *testing.T) {
	server, client := open(t, ":0"), open(t, "127.0.0.1:0")
	gone := netip.MustParseAddr("192.0.2.77") // TEST-NET-1, not ours
	if err := server.WriteTo([]byte("x"), client.LocalAddr(), gone); err != nil {
		t.Fatalf("write pinned to an address that is not ours: %v; want it sent anyway", err)
	}
	if err := server.WriteFrom([]byte("y"), client.LocalAddr(), gone); err == nil {
		t.Error("sent from an address that is not ours")
	}
	if n, _, _, _, err := client.ReadFrom(make([]byte, 10)); n != 1 || err != nil {
		t.Fatalf("read %d, %v; want the datagram", n, err)
	}
}

func TestPortTaken(t *testing.T) {
	s := open(t, "127.0.0.1:0")
	_, err := underlay.Listen(s.LocalAddr().String())
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("second listen: %v; want EADDRINUSE", err)
	}
}

func TestCloseUnblocksReader(t *testing.T) {
	s := open(t, "127.0.0.1:0")
	done := make(chan error, 1)
	go func() {
		_, _, _, _, err := s.ReadFrom(make([]byte, 10))
		done <- err
	}()
	s.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("reader got %v; want net.ErrClosed", err)
	}
}

func TestReadDeadline(t *testing.T) {
	s := open(t, "127.0.0.1:0")
	s.SetReadDeadline(time.Now().Add(-time.Second))
	if _, _, _, _, err := s.ReadFrom(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read past the deadline: %v", err)
	}
}

func TestPathMTU(t *testing.T) {
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, ":0")
	const longest = 1<<16 - 1 // packet of IPv4
	for to, want := range map[string]int{
		"127.0.0.1:9": min(loopback.MTU, longest), "[::ffff:127.0.0.1]:9": min(loopback.MTU, longest), "[::1]:9": loopback.MTU,
	} {
		if have, err := s.PathMTU(netip.MustParseAddrPort(to)); err != nil || have != want {
			t.Errorf("to %s: %d, %v; want that of the loopback, %d", to, have, err, want)
		}
	}
	if have, err := s.PathMTU(netip.MustParseAddrPort("255.255.255.255:9")); err == nil {
		t.Errorf("to where no datagram may go: %d", have)
	}
}
