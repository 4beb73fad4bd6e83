package quicnet_test

import (
	"bytes"
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

func TestSimultaneousDial(t *testing.T) {
	for _, skew := range []time.Duration{-2 * oneWay, -oneWay, -time.Millisecond, 0, time.Millisecond, oneWay, 2 * oneWay} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := two(t)
				var wg sync.WaitGroup
				streams := make([]net.Conn, 2)
				dialAt := func(i int, from, to *node, at time.Duration) {
					time.Sleep(at)
					streams[i] = dial(t, from, to)
					roundTrip(t, streams[i], "hello")
				}
				wg.Go(func() { dialAt(0, a, b, max(0, skew)) })
				wg.Go(func() { dialAt(1, b, a, max(0, -skew)) })
				wg.Wait()
				time.Sleep(time.Minute / 4) // less than the idle timeout
				roundTrip(t, streams[0], "still")
				roundTrip(t, streams[1], "here")
				ca, cb := a.Connections(), b.Connections()
				if len(ca) != 1 || len(cb) != 1 || ca[0].Dialed == cb[0].Dialed {
					t.Fatalf("connections: %+v, %+v", ca, cb)
				}
				if both := skew > -2*oneWay && skew < 2*oneWay; both && skew.Abs() < oneWay {
					if !ca[0].Dialed {
						t.Error("the connection of the larger NodeID is in use")
					}
				}
				for _, s := range streams {
					_ = s.Close()
				}
				time.Sleep(10 * time.Second)
				ca, cb = a.Connections(), b.Connections()
				if len(ca) != 1 || len(cb) != 1 || ca[0].Draining != 0 || cb[0].Draining != 0 {
					t.Errorf("connections after draining: %+v, %+v", ca, cb)
				}
			})
		})
	}
}

func TestPeerRestart(t *testing.T) {
	rows := []struct {
		name     string
		crash    bool // without telling
		redialer func(a, b *node) (from, to *node)
	}{
		{"stopped, survivor dials", false, func(a, b *node) (*node, *node) { return a, b }},
		{"stopped, restarted dials", false, func(a, b *node) (*node, *node) { return b, a }},
		{"crashed, survivor dials", true, func(a, b *node) (*node, *node) { return a, b }},
		{"crashed, restarted dials", true, func(a, b *node) (*node, *node) { return b, a }},
	}
	for _, row := range rows {
		for _, restarted := range []int{0, 1} {
			t.Run(row.name+", node "+string(rune('0'+restarted)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
					ids := who(t, 2)
					survivor := start(t, hub, ids[1-restarted], ids[1-restarted].ID(), nil)
					old := start(t, hub, ids[restarted], ids[restarted].ID(), nil)
					c := dial(t, survivor, old)
					roundTrip(t, c, "before")
					time.Sleep(time.Second)
					one, other := []net.Addr{memnet.AddrOf(survivor.id)}, []net.Addr{memnet.AddrOf(old.id)}
					if row.crash {
						hub.Cut(one, other)
					}
					old.stop()
					time.Sleep(time.Second)
					hub.Heal(one, other)
					fresh := start(t, hub, ids[restarted], ids[restarted].ID(), nil)

					begin := time.Now()
					from, to := row.redialer(survivor, fresh)
					for {
						s := dial(t, from, to)
						err := tryRoundTrip(s, "after")
						_ = s.Close()
						if err == nil {
							break
						}
						var lost *quicnet.LostError
						if !errors.As(err, &lost) {
							t.Fatalf("stream to a restarted peer: %v", err)
						}
					}
					if d := time.Since(begin); d > 8*oneWay {
						t.Errorf("data after %v, want at most four round trips", d)
					}
					if err := tryRoundTrip(c, "x"); err == nil {
						t.Error("the old stream lives")
					}
					_ = c.Close()
				})
			})
		}
	}
}

func TestRenewAfterOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 8 * time.Second, 25 * time.Second} {
		for _, row := range []struct {
			name string
			both bool
		}{{"one side renews", false}, {"both sides renew", true}} {
			t.Run(outage.String()+" "+row.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub, a, b := two(t)
					c := dial(t, a, b)
					roundTrip(t, c, "before")
					one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
					hub.Cut(one, other)
					go func() { // fills the window, as a session does
						buf := make([]byte, 4096)
						for {
							if _, err := c.Write(buf); err != nil {
								return
							}
						}
					}()
					time.Sleep(outage)
					hub.Heal(one, other)
					begin := time.Now()
					a.Renew(b.id)
					if row.both {
						b.RenewOlder(a.id, outage)
					}
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("stream of the old connection: %v, want net.ErrClosed", err)
					}
					var wg sync.WaitGroup
					for _, pair := range [][2]*node{{a, b}, {b, a}} {
						wg.Go(func() {
							for {
								s := dial(t, pair[0], pair[1])
								err := tryRoundTrip(s, "after")
								_ = s.Close()
								if err == nil {
									break
								}
							}
							if d := time.Since(begin); d > 8*oneWay {
								t.Errorf("data after %v, want at most four round trips", d)
							}
						})
					}
					wg.Wait()
					_ = c.Close()
				})
			})
		}
	}
}

// TestRenewRestartsWaitingDial: a dial made during an outage must not wait for
// the back-off of its handshake.
func TestRenewRestartsWaitingDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
		hub.Cut(one, other)
		done := make(chan time.Time, 1)
		go func() {
			c := dial(t, a, b)
			roundTrip(t, c, "hello")
			done <- time.Now()
			_ = c.Close()
		}()
		time.Sleep(4 * time.Second)
		hub.Heal(one, other)
		begin := time.Now()
		a.Renew(b.id)
		if d := (<-done).Sub(begin); d > 4*oneWay {
			t.Errorf("data after %v, want two round trips", d)
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		c := dial(t, a, b)
		roundTrip(t, c, "hello")
		a.Forget(b.id)
		var lost *quicnet.LostError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &lost) {
			t.Errorf("stream to a forgotten peer: %v, want a LostError", err)
		}
		_ = c.Close()
		again := dial(t, a, b) // it may come back
		roundTrip(t, again, "hello")
		_ = again.Close()

		a.Forget(b.id)
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		go func() {
			time.Sleep(time.Second)
			a.Forget(b.id)
		}()
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiting dial of a forgotten peer: %v, want net.ErrClosed", err)
		}
	})
}

func TestUnknownProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "nonsense")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, quicnet.ErrUnknownProtocol) {
			t.Errorf("Read: %v, want ErrUnknownProtocol", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, quicnet.ErrUnknownProtocol) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write: %v, want ErrUnknownProtocol and net.ErrClosed", err)
		}
		for _, bad := range []string{"", "has space", string(make([]byte, 32)), "a name that is longer than thirty-one"} {
			if _, err := a.Dial(t.Context(), b.id, bad); err == nil {
				t.Errorf("protocol %q was taken", bad)
			}
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{})
		ids := who(t, 2)
		a := start(t, hub, ids[0], ids[0].ID(), nil)
		b := start(t, hub, ids[1], ids[1].ID(), func(c *quicnet.Config) { c.Backlog = 2 })
		var refused int
		for range 3 { // nobody accepts "sink"
			c, err := a.Dial(t.Context(), b.id, "sink")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, quicnet.ErrBusy) {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d streams refused, want 1", refused)
		}
	})
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c := dial(t, a, b)
		defer c.Close()
		want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
		go func() {
			_, _ = c.Write(want)
			_ = c.(*quicnet.Stream).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after CloseWrite: %v, want net.ErrClosed", err)
		}
	})
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := b.Accept(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := c.Write(make([]byte, 4<<20)); errs <- err }()
		time.Sleep(time.Second) // both are blocked: nobody reads
		_ = c.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("blocked call: %v, want net.ErrClosed", err)
			}
		}
		if _, err := io.Copy(io.Discard, s); !errors.Is(err, quicnet.ErrAborted) {
			t.Errorf("peer read %v, want ErrAborted: the write was cut", err)
		}
		time.Sleep(time.Second)
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("peer wrote: %v, want net.ErrClosed", err)
		}
		_ = s.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 30000)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		s, _, err := b.Accept(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if n, err := io.Copy(io.Discard, s); n != 30000 || err != nil {
			t.Errorf("peer read %d bytes, %v; want 30000", n, err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		c, err := a.Dial(t.Context(), b.id, "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for name, call := range map[string]func() error{
			"read":  func() error { _, err := c.Read(make([]byte, 1)); return err },
			"write": func() error { _, err := c.Write(make([]byte, 4<<20)); return err },
		} {
			begin := time.Now()
			_ = c.SetDeadline(begin.Add(time.Second))
			err := call()
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v, want a time-out", name, err)
			}
			if d := time.Since(begin); d != time.Second {
				t.Errorf("%s: after %v, want 1s", name, d)
			}
			_ = c.SetDeadline(time.Time{})
		}
		go func() {
			time.Sleep(time.Second)
			_ = c.SetReadDeadline(time.Now()) // unblocks
		}()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read was not unblocked")
		}
	})
}

func TestDialErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		begin := time.Now()
		_, err := a.Dial(t.Context(), b.id, "echo")
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("dial without an answer: %v, want a time-out", err)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("after %v, want 5s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, b.id, "echo"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial with a deadline: %v", err)
		}
		if _, err := a.Dial(t.Context(), a.id, "echo"); err == nil {
			t.Error("a node has dialed itself")
		}
		go func() {
			time.Sleep(time.Second)
			a.stop()
		}()
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial while Run ends: %v, want net.ErrClosed", err)
		}
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial after Run: %v, want net.ErrClosed", err)
		}
		if _, _, err := a.Accept(t.Context(), "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after Run: %v, want net.ErrClosed", err)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
	})
}

func TestIdleTimeoutIsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "hello")
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		_, err := c.Read(make([]byte, 1))
		var lost *quicnet.LostError
		var ne net.Error
		if !errors.As(err, &lost) || !errors.Is(err, net.ErrClosed) || errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("read: %v, want a LostError and no time-out of the caller's", err)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
		ids := who(t, 2)
		a := start(t, hub, ids[0], ids[0].ID(), func(c *quicnet.Config) { c.KeepAlive = 10 * time.Second })
		b := start(t, hub, ids[1], ids[1].ID(), nil)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "hello")
		time.Sleep(10 * time.Minute)
		roundTrip(t, c, "still here")
	})
}

func TestLossyNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay, Jitter: oneWay, Loss: 0.1}, Seed: 7})
		ids := who(t, 3)
		var nodes []*node
		for _, id := range ids {
			nodes = append(nodes, start(t, hub, id, id.ID(), nil))
		}
		want := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
		var wg sync.WaitGroup
		for _, from := range nodes {
			for _, to := range nodes {
				if from == to {
					continue
				}
				wg.Go(func() {
					c := dial(t, from, to)
					defer c.Close()
					go func() {
						_, _ = c.Write(want)
						_ = c.(*quicnet.Stream).CloseWrite()
					}()
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("read %d bytes, %v", len(got), err)
					}
				})
			}
		}
		wg.Wait()
	})
}

// failing is a PacketConn whose writes fail for a while.
type failing struct {
	net.PacketConn
	mu   sync.Mutex
	fail bool
}

func (f *failing) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *failing) WriteTo(p []byte, a net.Addr) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return 0, errors.New("no path")
	}
	return f.PacketConn.WriteTo(p, a)
}

func TestWriteErrorIsALostDatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
		ids := who(t, 2)
		var f *failing
		a := start(t, hub, ids[0], ids[0].ID(), func(c *quicnet.Config) {
			f = &failing{PacketConn: c.PacketConn}
			c.PacketConn = f
		})
		b := start(t, hub, ids[1], ids[1].ID(), nil)
		c := dial(t, a, b)
		defer c.Close()
		roundTrip(t, c, "before")
		f.set(true)
		go func() {
			time.Sleep(2 * time.Second)
			f.set(false)
		}()
		roundTrip(t, c, "during")
		if a.LostWrites() == 0 {
			t.Error("no lost write was counted")
		}
	})
}

func TestBrokenPacketConnEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := who(t, 1)[0]
		conn := memnet.New(memnet.Config{}).Conn(memnet.AddrOf(id.ID()))
		n, err := quicnet.New(quicnet.Config{Identity: id, PacketConn: conn, Addr: memnet.AddrOf, NodeOf: memnet.NodeOf})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			_ = conn.Close()
		}()
		if err := n.Run(t.Context()); err == nil {
			t.Error("Run returned nil though its PacketConn is closed")
		}
	})
}
