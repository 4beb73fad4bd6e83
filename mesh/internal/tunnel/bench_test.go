package tunnel_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/internal/underlay"
	"github.com/serialspan/serialspan/mesh/peering"
)

// loopback starts a tunnel on a real socket; got has each payload's length.
func loopback(b *testing.B, n byte) (t *tunnel.Tunnel, key identity.WireGuardKey, at netip.AddrPort, got chan int) {
	b.Helper()
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		b.Fatal(err)
	}
	socket, err := underlay.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	got = make(chan int, 1024)
	t = tunnel.New(tunnel.Config{
		Self: identity.NodeID{n}, Private: private, Socket: socket,
		Deliver: func(_ identity.NodeID, _ byte, payload []byte) {
			select {
			case got <- len(payload):
			default:
			}
		},
		Control: func([]byte, netip.AddrPort, netip.Addr, int) {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		_ = socket.Close()
	})
	return t, private.Public(), socket.LocalAddr(), got
}

// BenchmarkPingPong is a round trip through two tunnels, wireguard-go and
// sockets on loopback, between goroutines above them.
func BenchmarkPingPong(b *testing.B) {
	for _, size := range []int{64, 1200} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			one, oneKey, oneAt, oneGot := loopback(b, 1)
			other, otherKey, otherAt, otherGot := loopback(b, 2)
			if err := one.SetPeer(identity.NodeID{2}, otherKey); err != nil {
				b.Fatal(err)
			}
			if err := other.SetPeer(identity.NodeID{1}, oneKey); err != nil {
				b.Fatal(err)
			}
			one.SetRoute(identity.NodeID{2}, peering.Route{Remote: otherAt})
			other.SetRoute(identity.NodeID{1}, peering.Route{Remote: oneAt})
			payload := make([]byte, size)
			late := time.NewTimer(2 * time.Minute)
			defer late.Stop()
			again := time.NewTicker(time.Second) // the first one may come before the tunnel runs
			defer again.Stop()
			send := func(from *tunnel.Tunnel, to byte, payload []byte) {
				if err := from.Send(identity.NodeID{to}, 2, payload); err != nil {
					b.Fatal(err)
				}
			}
			hello := payload[:1] // one that comes late is no answer to anything
			send(one, 2, hello)
			for waiting := true; waiting; {
				select {
				case <-otherGot:
					waiting = false
				case <-again.C:
					send(one, 2, hello)
				case <-late.C:
					b.Fatal("no handshake")
				}
			}
			trip := func() {
				for _, way := range []struct {
					from *tunnel.Tunnel
					to   byte
					got  chan int
				}{{one, 2, otherGot}, {other, 1, oneGot}} {
					send(way.from, way.to, payload)
					for n := 0; n != size; {
						select {
						case n = <-way.got:
						case <-late.C:
							b.Fatal("nothing came")
						}
					}
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				trip()
			}
		})
	}
}
