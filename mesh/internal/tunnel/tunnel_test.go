package tunnel_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const oneWay = 10 * time.Millisecond

type arrival struct {
	from    identity.NodeID
	payload string
	at      time.Duration // since the lab's start
}

// node is a tunnel on the lab's hub.
type node struct {
	*tunnel.Tunnel
	id      identity.NodeID
	key     identity.WireGuardPrivate
	addr    netip.AddrPort
	sock    *memnet.UDP
	got     chan arrival
	control atomic.Int64
	onWant  func(identity.NodeID)
	deliver func(identity.NodeID, byte, []byte)
}

type lab struct {
	t     *testing.T
	hub   *memnet.Hub
	start time.Time
}

func newLab(t *testing.T) *lab {
	return &lab{t: t, start: time.Now(), hub: memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})}
}

// node starts the n-th node; NodeIDs grow with n.
func (l *lab) node(n byte) *node {
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		l.t.Fatal(err)
	}
	nd := &node{id: identity.NodeID{n}, key: private, got: make(chan arrival, 4096)}
	nd.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 51821)
	nd.sock = l.hub.UDP(nd.addr)
	nd.deliver = func(from identity.NodeID, _ byte, payload []byte) {
		select {
		case nd.got <- arrival{from, string(payload), time.Since(l.start)}:
		default:
		}
	}
	nd.Tunnel = tunnel.New(tunnel.Config{
		Self: nd.id, Private: private, Socket: nd.sock,
		Deliver: func(from identity.NodeID, kind byte, payload []byte) { nd.deliver(from, kind, payload) },
		Control: func([]byte, netip.AddrPort, netip.Addr, int) { nd.control.Add(1) },
		Handshaking: func(id identity.NodeID) {
			if nd.onWant != nil {
				nd.onWant(id)
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nd.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
		nd.sock.Close()
	})
	return nd
}

func (l *lab) peer(a, b *node) {
	for _, p := range [][2]*node{{a, b}, {b, a}} {
		if err := p[0].SetPeer(p[1].id, p[1].key.Public()); err != nil {
			l.t.Fatal(err)
		}
	}
}

func route(n *node) peering.Route { return peering.Route{Remote: n.addr} }

func (l *lab) routes(a, b *node) {
	a.SetRoute(b.id, route(b))
	b.SetRoute(a.id, route(a))
}

func (n *node) send(t *testing.T, to *node, text string) {
	t.Helper()
	if err := n.Send(to.id, 2, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (n *node) wait(t *testing.T, within time.Duration) arrival {
	t.Helper()
	select {
	case a := <-n.got:
		return a
	case <-time.After(within):
		t.Fatalf("node %d: nothing arrived within %v", n.id[0], within)
		return arrival{}
	}
}

func TestFirstData(t *testing.T) {
	for _, row := range []struct {
		name     string
		from, to byte
		most     time.Duration
	}{
		{"the smaller NodeID sends", 1, 2, 3 * oneWay},
		// ask, initiation, response, the confirmation a responder must have, data
		{"the larger NodeID sends and asks", 2, 1, 5 * oneWay},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				nodes := map[byte]*node{1: l.node(1), 2: l.node(2)}
				a, b := nodes[row.from], nodes[row.to]
				asked := make(chan struct{}, 10)
				a.onWant = func(identity.NodeID) { asked <- struct{}{} }
				synctest.Wait()
				l.peer(a, b)
				l.routes(a, b)
				a.send(t, b, "hello")
				if row.from > row.to {
					<-asked
					time.Sleep(oneWay) // the probe that asks
					b.Initiate(a.id)
				}
				if got := b.wait(t, time.Second); got.payload != "hello" || got.from != a.id || got.at > row.most {
					t.Errorf("%q from %v after %v; want hello from %v within %v", got.payload, got.from, got.at, a.id, row.most)
				}
			})
		})
	}
}

func TestDataWithoutAskingWaitsForTheSmallerThenGoesAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.node(1), l.node(2)
		synctest.Wait()
		l.peer(a, b)
		l.routes(a, b)
		b.send(t, a, "hello")
		if got := a.wait(t, 4*time.Second); got.at < 2*time.Second || got.at > 2100*time.Millisecond {
			t.Errorf("first data after %v; want just after 2 s", got.at)
		}
	})
}

// Both sides send at once: with one initiator, no handshake destroys another.
func TestBothSendAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.node(1), l.node(2)
		b.onWant = func(identity.NodeID) {}
		synctest.Wait()
		l.peer(a, b)
		l.routes(a, b)
		a.send(t, b, "from a")
		b.send(t, a, "from b")
		if got := b.wait(t, time.Second); got.at > 3*oneWay {
			t.Errorf("a's data took %v", got.at)
		}
		if got := a.wait(t, time.Second); got.at > 4*oneWay {
			t.Errorf("b's data took %v", got.at)
		}
	})
}

// Handshake messages that arrive twice at once, as on two paths, leave both sides
// with the same keys.
func TestHandshakeOnTwoPaths(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			a, b := l.node(1), l.node(2)
			synctest.Wait()
			l.peer(a, b)
			for _, way := range [][2]*node{{a, b}, {b, a}} {
				l.hub.SetDirection(memnet.UDPAddr(way[0].addr), memnet.UDPAddr(way[1].addr), memnet.Link{Delay: oneWay, Twice: 1})
			}
			l.routes(a, b)
			a.send(t, b, "from a")
			if got := b.wait(t, time.Second); got.at > 3*oneWay {
				t.Errorf("a's data took %v", got.at)
			}
			b.send(t, a, "from b")
			a.wait(t, time.Second)
			a.send(t, b, "again")
			b.wait(t, time.Second)
		})
	}
}

// The path comes up after the initiation was made, and packets get lost on it:
// no case may cost WireGuard's own 5 s.
func TestHandshakePacketsLost(t *testing.T) {
	for _, row := range []struct {
		name string
		lose func(l *lab, a, b *node, down bool)
	}{
		{"initiation", func(l *lab, a, b *node, down bool) {
			l.hub.SetDirection(memnet.UDPAddr(a.addr), memnet.UDPAddr(b.addr), memnet.Link{Delay: oneWay, Down: down})
		}},
		{"response", func(l *lab, a, b *node, down bool) {
			l.hub.SetDirection(memnet.UDPAddr(b.addr), memnet.UDPAddr(a.addr), memnet.Link{Delay: oneWay, Down: down})
		}},
		{"route is late", func(l *lab, a, b *node, down bool) {
			if down {
				a.SetRoute(b.id, peering.Route{})
			} else {
				a.SetRoute(b.id, route(b))
			}
		}},
	} {
		for _, lostFor := range []time.Duration{50 * time.Millisecond, 350 * time.Millisecond, 1200 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s for %v", row.name, lostFor), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLab(t)
					a, b := l.node(1), l.node(2)
					synctest.Wait()
					l.peer(a, b)
					l.routes(a, b)
					row.lose(l, a, b, true)
					a.send(t, b, "hello")
					time.Sleep(lostFor)
					row.lose(l, a, b, false)
					got := b.wait(t, 4*time.Second)
					if most := 4*lostFor + 200*time.Millisecond; got.at > most {
						t.Errorf("first data after %v; want within %v", got.at, most)
					}
					if row.name == "response" && b.Stats().AnsweredRepeats.Load() == 0 {
						t.Error("the stored response was not used")
					}
				})
			})
		}
	}
}

// A stranger who recorded an initiation and replays it learns nothing.
func TestReplayedInitiationIsNotAnsweredToTheStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.node(1), l.node(2)
		tapped := l.hub.UDP(netip.MustParseAddrPort("203.0.113.9:9"))
		defer tapped.Close()
		synctest.Wait()
		l.peer(a, b)
		b.SetRoute(a.id, route(a))
		a.SetRoute(b.id, peering.Route{Remote: tapped.LocalAddr()}) // the stranger reads along
		a.send(t, b, "hello")
		buf := make([]byte, 2000)
		n, _, _, _, err := tapped.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		recorded := bytes.Clone(buf[:n])
		for range 10 {
			if err := tapped.WriteTo(recorded, b.addr, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		tapped.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, from, _, _, err := tapped.ReadFrom(buf)
			if err != nil {
				break
			}
			if from == b.addr {
				t.Fatalf("b answered a stranger with %d bytes of type %d", n, buf[0])
			}
		}
	})
}

func TestNewKeyReplacesTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.node(1), l.node(2)
		synctest.Wait()
		l.peer(a, b)
		l.routes(a, b)
		a.send(t, b, "before")
		b.wait(t, time.Second)

		restarted := l.node(1) // same NodeID and address, new WireGuard key
		synctest.Wait()
		restarted.onWant = func(identity.NodeID) {}
		if err := b.SetPeer(restarted.id, restarted.key.Public()); err != nil {
			t.Fatal(err)
		}
		if err := restarted.SetPeer(b.id, b.key.Public()); err != nil {
			t.Fatal(err)
		}
		restarted.SetRoute(b.id, route(b))
		begin := time.Since(l.start)
		restarted.send(t, b, "after")
		if got := b.wait(t, time.Second); got.payload != "after" || got.at-begin > 3*oneWay {
			t.Errorf("%q after %v", got.payload, got.at-begin)
		}
	})
}

// A relay hands what it receives to its own tunnel again. With every queue
// full, nothing may wait for room: wireguard-go's goroutines would wait for
// each other for ever.
func TestRelayShapedLoadDoesNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, relay, c := l.node(1), l.node(2), l.node(3)
		synctest.Wait()
		l.peer(a, relay)
		l.peer(relay, c)
		l.routes(a, relay)
		l.routes(relay, c)
		var forwarded atomic.Int64
		relay.deliver = func(from identity.NodeID, kind byte, payload []byte) {
			// One in, many out, both ways: the queue is always full.
			for range 8 {
				relay.TrySend(c.id, kind, payload)
				relay.TrySend(a.id, kind, payload)
			}
			forwarded.Add(1)
		}
		payload := bytes.Repeat([]byte("x"), tunnel.MaxPayload)
		for range 5000 {
			if err := a.Send(relay.id, 3, payload); err != nil {
				t.Fatal(err)
			}
			c.TrySend(relay.id, 3, payload)
		}
		time.Sleep(time.Second)
		if forwarded.Load() == 0 {
			t.Fatal("the relay forwarded nothing")
		}
		// It still lives: a datagram gets through in a round trip.
		relay.deliver = func(from identity.NodeID, kind byte, payload []byte) { relay.TrySend(c.id, kind, payload) }
		for len(c.got) > 0 {
			<-c.got
		}
		a.send(t, relay, "still there")
		if got := c.wait(t, time.Second); got.payload != "still there" {
			t.Errorf("got %d bytes; want the new datagram", len(got.payload))
		}
		if relay.Stats().SendQueueFull.Load() == 0 {
			t.Error("the queue never filled: the test did not test it")
		}
	})
}

func TestSendErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.node(1), l.node(2)
		synctest.Wait()
		if err := a.Send(b.id, 1, nil); err != tunnel.ErrNoPeer {
			t.Errorf("send to a stranger: %v", err)
		}
		l.peer(a, b)
		if err := a.Send(b.id, 1, make([]byte, tunnel.MaxPayload+1)); err != tunnel.ErrTooLong {
			t.Errorf("send too much: %v", err)
		}
		if err := a.SetPeer(identity.NodeID{2, 0, 0, 0, 0, 0, 0, 0, 1}, b.key.Public()); err == nil {
			t.Error("two members with one mesh address were accepted")
		}
		a.RemovePeer(b.id)
		if err := a.Send(b.id, 1, nil); err != tunnel.ErrNoPeer {
			t.Errorf("send to a removed peer: %v", err)
		}
	})
}

// WireSize says what really leaves.
func TestWireSize(t *testing.T) {
	for _, payload := range []int{200, 1200, 1312, tunnel.MaxPayload} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			a, b := l.node(1), l.node(2)
			synctest.Wait()
			l.peer(a, b)
			l.routes(a, b)
			a.send(t, b, strings.Repeat("x", payload))
			b.wait(t, time.Second)
			if have, want := l.hub.Stats().Largest, tunnel.WireSize(payload); have != want {
				t.Errorf("a payload of %d bytes left as %d, want %d", payload, have, want)
			}
		})
	}
}
