package quicnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const oneWay = 5 * time.Millisecond

// who makes identities whose NodeIDs are in the order of their index.
func who(t *testing.T, count int) []*identity.Identity {
	t.Helper()
	var ids []*identity.Identity
	for i := range count {
		ids = append(ids, identity.FromSeed([32]byte{1, byte(i)}))
	}
	slices.SortFunc(ids, func(a, b *identity.Identity) int { return a.ID().Compare(b.ID()) })
	return ids
}

// node is one running quicnet.Net.
type node struct {
	*quicnet.Net
	id   identity.NodeID
	stop func()
}

// start runs a node behind addr; its address need not be that of its identity.
func start(t *testing.T, hub *memnet.Hub, id *identity.Identity, addr identity.NodeID, change func(*quicnet.Config)) *node {
	t.Helper()
	conn := hub.Conn(memnet.AddrOf(addr))
	cfg := quicnet.Config{Identity: id, PacketConn: conn, Addr: memnet.AddrOf, NodeOf: memnet.NodeOf}
	if change != nil {
		change(&cfg)
	}
	n, err := quicnet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"echo", "sink"} {
		if err := n.Listen(p); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	running.Go(func() { echo(ctx, n, &running) })
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			running.Wait()
			_ = conn.Close()
		})
	}
	t.Cleanup(stop)
	return &node{Net: n, id: addr, stop: stop}
}

func echo(ctx context.Context, n *quicnet.Net, running *sync.WaitGroup) {
	for {
		c, _, err := n.Accept(ctx, "echo")
		if err != nil {
			return
		}
		running.Go(func() {
			defer c.Close()
			if _, err := io.Copy(c, c); err == nil {
				_ = c.(*quicnet.Stream).CloseWrite()
			}
		})
	}
}

// roundTrip sends one message on an echo stream and reads it back.
func roundTrip(t *testing.T, c net.Conn, message string) {
	t.Helper()
	if err := tryRoundTrip(c, message); err != nil {
		t.Fatalf("round trip: %v", err)
	}
}

func tryRoundTrip(c net.Conn, message string) error {
	if _, err := c.Write([]byte(message)); err != nil {
		return err
	}
	buf := make([]byte, len(message))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != message {
		return errors.New("other bytes came back")
	}
	return nil
}

func dial(t *testing.T, from, to *node) net.Conn {
	t.Helper()
	c, err := from.Dial(t.Context(), to.id, "echo")
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return c
}

// two starts two nodes; the first has the smaller NodeID.
func two(t *testing.T) (*memnet.Hub, *node, *node) {
	t.Helper()
	hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
	ids := who(t, 2)
	a := start(t, hub, ids[0], ids[0].ID(), nil)
	b := start(t, hub, ids[1], ids[1].ID(), nil)
	return hub, a, b
}

func TestFirstBytesAfterOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		begin := time.Now()
		c := dial(t, a, b)
		if d := time.Since(begin); d != 2*oneWay {
			t.Errorf("Dial took %v, want one round trip, %v", d, 2*oneWay)
		}
		roundTrip(t, c, "hello")
		if d := time.Since(begin); d != 4*oneWay {
			t.Errorf("answer after %v, want two round trips, %v", d, 4*oneWay)
		}
		begin = time.Now()
		again := dial(t, a, b)
		if d := time.Since(begin); d != 0 {
			t.Errorf("second Dial took %v, want 0", d)
		}
		roundTrip(t, again, "hello")
		back := dial(t, b, a)
		roundTrip(t, back, "hello")
		for _, s := range []net.Conn{c, again, back} {
			_ = s.Close()
		}
		if s := hub.Stats(); s.Largest > 1200 {
			t.Errorf("largest datagram has %d bytes, want at most 1200", s.Largest)
		}
		for _, n := range []*node{a, b} {
			if got := n.Connections(); len(got) != 1 || got[0].Draining != 0 || got[0].Dialed != (n == a) {
				t.Errorf("connections: %+v", got)
			}
		}
		if c.RemoteAddr() != memnet.AddrOf(b.id) || c.LocalAddr() != memnet.AddrOf(a.id) {
			t.Errorf("addresses %v, %v", c.LocalAddr(), c.RemoteAddr())
		}
	})
}

func TestAcceptNamesThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, from, err := b.Accept(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if from != a.id {
			t.Errorf("stream from %v, want %v", from, a.id)
		}
	})
}

func TestWrongIdentityIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
		ids := who(t, 3)
		a := start(t, hub, ids[0], ids[0].ID(), nil)
		impostor := start(t, hub, ids[2], ids[1].ID(), nil) // another key behind b's address

		_, err := a.Dial(t.Context(), impostor.id, "echo")
		var refused *quicnet.IdentityError
		if !errors.As(err, &refused) || refused.Remote || refused.Node != impostor.id {
			t.Errorf("dial of an impostor: %v, want an IdentityError of ours", err)
		}
		// The dialing side learns of the refusal with its first read.
		c, err := impostor.Dial(t.Context(), a.id, "echo")
		if err == nil {
			err = tryRoundTrip(c, "x")
			_ = c.Close()
		}
		if err == nil {
			t.Error("an impostor's stream was served")
		}
		if got := a.Connections(); len(got) != 0 {
			t.Errorf("connections of the honest node: %+v", got)
		}
	})
}
