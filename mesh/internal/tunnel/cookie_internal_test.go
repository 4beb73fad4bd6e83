package tunnel

import (
	"context"
	"net/netip"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/peering"
)

// On the wire of these tests: what a member passes on, and what it was asked to.
const (
	kindData    = 2
	kindPass    = 3
	kindPassed  = 4
	cookieDelay = 10 * time.Millisecond
)

// member is a tunnel on a hub that passes messages on.
type member struct {
	*Tunnel
	id      identity.NodeID
	private identity.WireGuardPrivate
	addr    netip.AddrPort
	got     chan identity.NodeID // who data came from
}

func startMember(t *testing.T, hub *memnet.Hub, n byte) *member {
	t.Helper()
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{id: identity.NodeID{n}, private: private, got: make(chan identity.NodeID, 64)}
	m.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 51821)
	socket := hub.UDP(m.addr)
	m.Tunnel = New(Config{
		Self: m.id, Private: private, Socket: socket, RelayKind: kindPass,
		Deliver: func(from identity.NodeID, kind byte, payload []byte) {
			switch kind {
			case kindPass:
				_ = m.TryRelay(identity.NodeID(payload[:identity.NodeIDLen]), kindPassed, from, payload[identity.NodeIDLen:])
			case kindPassed:
				m.Inject(payload[identity.NodeIDLen:])
			default:
				m.got <- from
			}
		},
		Control: func([]byte, netip.AddrPort, netip.Addr, int) {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		socket.Close()
	})
	synctest.Wait()
	return m
}

func meet(t *testing.T, a, b *member) {
	t.Helper()
	for _, pair := range [][2]*member{{a, b}, {b, a}} {
		if err := pair[0].SetPeer(pair[1].id, pair[1].private.Public()); err != nil {
			t.Fatal(err)
		}
		pair[0].SetRoute(pair[1].id, peering.Route{Remote: pair[1].addr})
	}
}

// loadedLongAgo does to wireguard-go what a step of its wall clock does that goes
// back by years after a second of load: it takes itself for loaded until the old
// time comes again.
func loadedLongAgo(m *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	until := reflect.ValueOf(m.device).Elem().FieldByName("rate").FieldByName("underLoadUntil")
	(*atomic.Int64)(unsafe.Pointer(until.UnsafeAddr())).Store(time.Now().AddDate(10, 0, 0).UnixNano())
}

// With a load in truth cookies go to whom they are for, and cost a direct peer
// WireGuard's next try.
func TestCookiesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: cookieDelay}})
		a, b := startMember(t, hub, 1), startMember(t, hub, 2)
		meet(t, a, b)
		loadedLongAgo(b)
		load := time.NewTicker(handshakesIn / handshakesSeen / 2)
		defer load.Stop()
		others := func() {
			b.bind.noteHandshake([]byte{messageInitiation, 0, 0, 0, 9, 9, 9, 9}, &source{remote: a.addr})
		}
		for range handshakesSeen {
			others()
		}
		began := time.Now()
		if err := a.Send(b.id, kindData, []byte("x")); err != nil {
			t.Fatal(err)
		}
		for waiting := true; waiting; {
			select {
			case <-load.C:
				others()
			case <-b.got:
				waiting = false
			}
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("first data after %v; want that of the second initiation, with the cookie", took)
		}
		if met := b.stats.CookiesMet.Load(); met != 0 {
			t.Errorf("%d cookies were kept from those they are for", met)
		}
	})
}

// A member whose clock went back after a load demands cookies for years. That
// must cost nobody the handshake, nor the 5 s after which WireGuard tries again.
func TestNobodyIsLockedOutByALoadOfAnotherTime(t *testing.T) {
	for _, row := range []struct {
		name               string
		initiator, answers bool // which is stuck
		relayed            bool
	}{
		{"the responder", false, true, false},
		{"the initiator", true, false, false},
		{"both", true, true, false},
		{"the responder, through a relay", false, true, true},
		{"the initiator, through a relay", true, false, true},
		{"both, through a relay", true, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: cookieDelay}})
				a, b := startMember(t, hub, 1), startMember(t, hub, 2) // a is the smaller: it initiates
				meet(t, a, b)
				if row.relayed {
					relay := startMember(t, hub, 3)
					for _, m := range []*member{a, b} {
						meet(t, m, relay)
						if err := m.Send(relay.id, kindData, []byte("x")); err != nil {
							t.Fatal(err)
						}
						<-relay.got
					}
					a.SetRoute(b.id, peering.Route{Via: relay.id})
					b.SetRoute(a.id, peering.Route{Via: relay.id})
				}
				if row.initiator {
					loadedLongAgo(a)
				}
				if row.answers {
					loadedLongAgo(b)
				}
				began := time.Now()
				if err := a.Send(b.id, kindData, []byte("x")); err != nil {
					t.Fatal(err)
				}
				most := 3 * cookieDelay // initiation, response, data
				if row.relayed {
					most *= 2
				}
				select {
				case <-b.got:
					if took := time.Since(began); took > most {
						t.Errorf("first data after %v, want %v", took, most)
					}
				case <-time.After(time.Minute):
					t.Error("locked out for a minute")
				}
			})
		})
	}
}
