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

// pair is two tunnels of members 1 and 2, with delay between them and no routes.
type pair struct {
	tunnels [2]*memtunnel.Tunnel
	sockets [2]*memnet.UDP
	got     chan string
	start   time.Time
}

const delay = 10 * time.Millisecond

var (
	ids   = [2]identity.NodeID{{1}, {2}}
	addrs = [2]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51821"), netip.MustParseAddrPort("192.0.2.2:51821")}
)

func newPair(t *testing.T) *pair {
	hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: delay}})
	p := &pair{got: make(chan string, 1), start: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for i := range ids {
		p.sockets[i] = hub.UDP(addrs[i])
		p.tunnels[i] = memtunnel.New(tunnel.Config{
			Self: ids[i], Socket: p.sockets[i], Now: func() time.Duration { return time.Since(p.start) },
			Deliver: func(_ identity.NodeID, kind byte, payload []byte) { p.got <- string(kind) + string(payload) },
		})
		if err := p.tunnels[i].SetPeer(ids[1-i], identity.WireGuardKey{1}); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- p.tunnels[i].Run(ctx) }()
	}
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		for range ids {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

func (p *pair) route(i int) { p.tunnels[i].SetRoute(ids[1-i], peering.Route{Remote: addrs[1-i]}) }

// send sends from one to the other, which initiates if it is the smaller: a probe
// would ask it to.
func (p *pair) send(t *testing.T, from int) {
	t.Helper()
	if err := p.tunnels[from].Send(ids[1-from], 'k', []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if from == 1 {
		p.tunnels[0].Initiate(ids[1])
	}
}

// within waits for what was sent.
func (p *pair) within(t *testing.T, bound time.Duration) {
	t.Helper()
	select {
	case have := <-p.got:
		if took := time.Since(p.start); have != "khello" || took > bound {
			t.Errorf("%q arrived after %v, want it within %v", have, took, bound)
		}
	case <-time.After(time.Minute):
		t.Error("nothing arrived")
	}
}

// TestCarry sends a datagram each way: it arrives after a handshake, whoever
// begins, and the datagrams on the network have WireGuard's sizes.
func TestCarry(t *testing.T) {
	for name, from := range map[string]int{"the smaller begins": 0, "the larger begins": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.route(0)
				p.route(1)
				p.send(t, from)
				want := [2]uint64{148 + 32 + 64, 92} // 49 + 5 bytes inside, padded to 64
				if from == 1 {
					p.within(t, 4*delay) // the larger must be confirmed first
					want = [2]uint64{148 + 32, 92 + 32 + 64}
				} else {
					p.within(t, 3*delay)
				}
				time.Sleep(delay)
				for i, socket := range p.sockets {
					if _, bytes := socket.Sent(); bytes != want[i] {
						t.Errorf("%d has sent %d bytes, want %d", i, bytes, want[i])
					}
				}
			})
		})
	}
}

// TestUnconfirmed has an initiation arrive before there is a route for the
// response, as WireGuard's white paper allows for: what waits is sent when the
// other side has shown that it has a response.
func TestUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.route(0)
		p.send(t, 1)
		time.Sleep(2 * delay)
		p.route(1)
		p.within(t, time.Second) // the initiation comes again after 0.1 s
	})
}
