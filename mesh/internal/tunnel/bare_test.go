package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/internal/underlay"
	"github.com/serialspan/serialspan/mesh/peering"
)

// bareNode is a tunnel on a real socket.
type bareNode struct {
	*tunnel.Tunnel
	socket *underlay.Socket
	at     netip.AddrPort // on ::1
	got    chan string    // datagrams delivered, and "control"
}

func newBareNode(t *testing.T, n byte) *bareNode {
	t.Helper()
	socket, err := underlay.Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bareNode{socket: socket, at: netip.AddrPortFrom(netip.IPv6Loopback(), socket.LocalAddr().Port()), got: make(chan string, 100)}
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		t.Fatal(err)
	}
	b.Tunnel = tunnel.New(tunnel.Config{
		Self: identity.NodeID{n}, Private: private, Socket: socket,
		Deliver: func(from identity.NodeID, kind byte, payload []byte) {
			b.got <- fmt.Sprintf("%d %d %s", from[0], kind, payload)
		},
		Control: func([]byte, netip.AddrPort, netip.Addr, int) { b.got <- "control" },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		socket.Close()
	})
	return b
}

// next returns what is taken from the socket next.
func (b *bareNode) next(t *testing.T) string {
	t.Helper()
	select {
	case text := <-b.got:
		return text
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived within 5 s")
		return ""
	}
}

// TestBare: bare datagrams are taken by the KubeSpan's interface, at our address
// there and from a known address only; the loopback stands for the KubeSpan.
func TestBare(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	us, other := newBareNode(t, 1), newBareNode(t, 2)
	member := identity.NodeID{2}
	key, err := identity.NewWireGuardPrivate()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.SetPeer(identity.NodeID{1}, key.Public()); err != nil {
		t.Fatal(err)
	}
	other.SetKubeSpan(lo.Index, netip.IPv6Loopback())
	other.SetRoute(identity.NodeID{1}, peering.Route{Remote: us.at, KubeSpan: true})
	for _, row := range []struct {
		name             string
		link             int
		addr             netip.Addr
		known            bool
		refused, unknown uint64
	}{
		{"no KubeSpan", 0, netip.Addr{}, true, 1, 0},
		{"another interface", lo.Index + 1, us.at.Addr(), true, 1, 0},
		{"another address", lo.Index, netip.MustParseAddr("fd7f:175a:b97c:5602::1"), true, 1, 0},
		{"from nobody known", lo.Index, us.at.Addr(), false, 0, 1},
		{"as it should be", lo.Index, us.at.Addr(), true, 0, 0},
		{"known no more", lo.Index, us.at.Addr(), false, 0, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			us.SetKubeSpan(row.link, row.addr)
			us.Know(member, other.at)
			if !row.known {
				us.Unknow(member)
			}
			refused, unknown := us.Stats().BareRefused.Load(), us.Stats().BareUnknown.Load()
			if err := other.Send(identity.NodeID{1}, 2, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			// What follows on the same way shows that the datagram was looked at.
			if err := other.socket.WriteTo([]byte{99}, us.at, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
			if text := us.next(t); text == "control" {
				if row.refused+row.unknown == 0 {
					t.Error("dropped")
				}
			} else if text != "2 2 hello" || row.refused+row.unknown > 0 || us.next(t) != "control" {
				t.Errorf("delivered %q", text)
			}
			refused, unknown = us.Stats().BareRefused.Load()-refused, us.Stats().BareUnknown.Load()-unknown
			if refused != row.refused || unknown != row.unknown {
				t.Errorf("counted %d refused, %d unknown; want %d and %d", refused, unknown, row.refused, row.unknown)
			}
		})
	}
}

// TestBareGolden: a change of these bytes breaks what runs elsewhere.
func TestBareGolden(t *testing.T) {
	us := newBareNode(t, 1)
	other, err := underlay.Listen("[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	key, err := identity.NewWireGuardPrivate()
	if err != nil {
		t.Fatal(err)
	}
	member := identity.NodeID{2}
	if err := us.SetPeer(member, key.Public()); err != nil {
		t.Fatal(err)
	}
	us.SetKubeSpan(1, netip.IPv6Loopback())
	us.SetRoute(member, peering.Route{Remote: other.LocalAddr(), KubeSpan: true})
	if err := us.Send(member, 2, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	other.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	n, from, _, _, err := other.ReadFrom(buf)
	want, _ := os.ReadFile("testdata/bare.hex")
	if err != nil || from != us.at || fmt.Sprintf("%x\n", buf[:n]) != string(want) {
		t.Errorf("%x from %v, %v; want %s", buf[:n], from, err, want)
	}
	if err := us.Send(member, 2, make([]byte, tunnel.MaxPayload+1)); !errors.Is(err, tunnel.ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}
