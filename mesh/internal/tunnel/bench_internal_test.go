package tunnel

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// sizes of payloads: a serial frame in QUIC, and a full QUIC packet.
var sizes = []int{64, 1200}

// still is a socket that always has the same datagram and takes any.
type still struct{ datagram []byte }

var remote = netip.MustParseAddrPort("192.0.2.1:51821")

func (s *still) ReadFrom(b []byte) (int, netip.AddrPort, netip.Addr, int, error) {
	return copy(b, s.datagram), remote, netip.Addr{}, 0, nil
}
func (s *still) WriteTo([]byte, netip.AddrPort, netip.Addr) error   { return nil }
func (s *still) WriteFrom([]byte, netip.AddrPort, netip.Addr) error { return nil }
func (s *still) SetReadDeadline(time.Time) error                    { return nil }

// parts are an endpoint and a Bind without wireguard-go in between, as it uses
// them.
type parts struct {
	t       *Tunnel
	device  tun.Device
	bind    conn.Bind
	receive conn.ReceiveFunc
	peer    identity.NodeID
	link    *link
	bufs    [][]byte
	sizes   []int
	eps     []conn.Endpoint
	got     int // payloads delivered
}

func newParts(tb testing.TB, self, peer byte, size int) *parts {
	tb.Helper()
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		tb.Fatal(err)
	}
	message := append([]byte{messageTransport, 0, 0, 0}, make([]byte, MTU-4)...)[:(16+innerHeader+1+size+15)/16*16+16]
	p := &parts{peer: identity.NodeID{peer}, bufs: [][]byte{make([]byte, 2048)}, sizes: make([]int, 1), eps: make([]conn.Endpoint, 1)}
	p.t = New(Config{
		Self: identity.NodeID{self}, Private: private, Socket: &still{message},
		Deliver: func(identity.NodeID, byte, []byte) { p.got++ },
		Control: func([]byte, netip.AddrPort, netip.Addr, int) {},
	})
	if err := p.t.SetPeer(p.peer, private.Public()); err != nil {
		tb.Fatal(err)
	}
	p.t.SetRoute(p.peer, peering.Route{Remote: remote})
	p.device, p.bind, p.link = p.t.ep, p.t.bind, p.t.link(p.peer)
	receivers, _, err := p.bind.Open(0)
	if err != nil {
		tb.Fatal(err)
	}
	p.receive = receivers[0]
	return p
}

// steps are what a datagram passes besides wireguard-go itself. Each does one
// of them and reports whether it did.
func steps(tb testing.TB, size int) map[string]func() bool {
	p, other := newParts(tb, 1, 2, size), newParts(tb, 2, 1, size)
	payload := make([]byte, size)
	if err := other.t.Send(other.peer, 2, payload); err != nil {
		tb.Fatal(err)
	}
	if n, err := other.device.Read(other.bufs, other.sizes, 0); n != 1 || err != nil {
		tb.Fatal(n, err)
	}
	arrived := [][]byte{bytes.Clone(other.bufs[0][:other.sizes[0]])}
	message := [][]byte{bytes.Clone(p.t.cfg.Socket.(*still).datagram)}
	return map[string]func() bool{
		"EndpointSend": func() bool {
			if p.t.Send(p.peer, 2, payload) != nil {
				return false
			}
			n, err := p.device.Read(p.bufs, p.sizes, 0)
			return n == 1 && err == nil
		},
		"EndpointDeliver": func() bool {
			before := p.got
			_, err := p.device.Write(arrived, 0)
			return err == nil && p.got == before+1
		},
		"BindSend": func() bool { return p.bind.Send(message, p.link) == nil },
		"BindReceive": func() bool {
			n, err := p.receive(p.bufs, p.sizes, p.eps)
			return n == 1 && err == nil
		},
	}
}

func benchmarkStep(b *testing.B, name string) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			step := steps(b, size)[name]
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if !step() {
					b.Fatal("not done")
				}
			}
		})
	}
}

func BenchmarkEndpointSend(b *testing.B)    { benchmarkStep(b, "EndpointSend") }
func BenchmarkEndpointDeliver(b *testing.B) { benchmarkStep(b, "EndpointDeliver") }
func BenchmarkBindSend(b *testing.B)        { benchmarkStep(b, "BindSend") }
func BenchmarkBindReceive(b *testing.B)     { benchmarkStep(b, "BindReceive") }

// What takes nothing from the heap per datagram stays so.
func TestAllocations(t *testing.T) {
	for _, size := range sizes {
		all := steps(t, size)
		for _, name := range []string{"EndpointDeliver", "BindSend", "BindReceive"} {
			step := all[name]
			if n := testing.AllocsPerRun(1000, func() {
				if !step() {
					t.Fatalf("%s of %d bytes was not done", name, size)
				}
			}); n != 0 {
				t.Errorf("%s of %d bytes allocates %v times", name, size, n)
			}
		}
	}
}
