package memtunnel_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/memtunnel"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCarry sends a datagram each way: it arrives after a handshake, whoever
// begins, and the datagrams on the network have WireGuard's sizes.
func TestCarry(t *testing.T) {
	const delay = 10 * time.Millisecond
	for name, from := range map[string]int{"the smaller begins": 0, "the larger begins": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: delay}})
				ids := []identity.NodeID{{1}, {2}}
				addrs := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51821"), netip.MustParseAddrPort("192.0.2.2:51821")}
				var tunnels []*memtunnel.Tunnel
				var sockets []*memnet.UDP
				got := make(chan string, 1)
				ended := make(chan error, 2)
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				for i := range ids {
					socket := hub.UDP(addrs[i])
					one := memtunnel.New(tunnel.Config{
						Self: ids[i], Socket: socket, Now: func() time.Duration { return time.Since(start) },
						Deliver: func(_ identity.NodeID, kind byte, payload []byte) { got <- string(kind) + string(payload) },
					})
					tunnels, sockets = append(tunnels, one), append(sockets, socket)
					if err := one.SetPeer(ids[1-i], identity.WireGuardKey{1}); err != nil {
						t.Fatal(err)
					}
					go func() { ended <- one.Run(ctx) }()
				}
				synctest.Wait()
				for i := range tunnels {
					tunnels[i].SetRoute(ids[1-i], peering.Route{Remote: addrs[1-i]})
				}
				if err := tunnels[from].Send(ids[1-from], 'k', []byte("hello")); err != nil {
					t.Fatal(err)
				}
				if from == 1 {
					tunnels[0].Initiate(ids[1]) // as it was asked to
				}
				if have := <-got; have != "khello" {
					t.Errorf("%q arrived", have)
				}
				if took := time.Since(start); took > 3*delay {
					t.Errorf("it took %v", took)
				}
				want := []uint64{148 + 32 + 64, 92} // 49 + 5 bytes inside, padded to 64
				if from == 1 {
					want = []uint64{148 + 32, 92 + 32 + 64}
				}
				time.Sleep(delay)
				for i, socket := range sockets {
					if _, bytes := socket.Sent(); bytes != want[i] {
						t.Errorf("%d has sent %d bytes, want %d", i, bytes, want[i])
					}
				}
				cancel()
				for range ids {
					if err := <-ended; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
