package mesh_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// relayed starts two relays, and two more nodes that cannot reach each other
// straight.
func relayed(t *testing.T, net *meshtest.Network) (r1, r2, a, b *meshtest.Node) {
	t.Helper()
	r1 = net.Start("relay1", meshtest.Options{})
	r2 = net.Start("relay2", meshtest.Options{Join: []*meshtest.Node{r1}})
	net.WaitFor(2*time.Second, "the relays to see each other", allAlive(r1, r2))
	chat := meshtest.Options{Protocols: []string{"chat/1"}, Join: []*meshtest.Node{r1, r2}}
	chat.Addr = net.Addr()
	first := chat.Addr
	chat2 := chat
	chat2.Addr = net.Addr()
	net.CutAddrs(first, chat2.Addr)
	a = net.Start("a", chat)
	b = net.Start("b", chat2)
	net.WaitFor(10*time.Second, "all to see each other", allAlive(r1, r2, a, b))
	return r1, r2, a, b
}

func path(from, to *meshtest.Node) string {
	m, _ := from.Member(to)
	return m.Path
}

func TestRelayThenDirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		r1, _, a, b := relayed(t, net)
		first := say(t, a, b)
		if first > 500*time.Millisecond {
			t.Errorf("first byte through a relay after %v", first)
		}
		t.Logf("first byte after %v, path %q", first, path(a, b))
		if !strings.HasPrefix(path(a, b), "via relay") || !strings.HasPrefix(path(b, a), "via relay") {
			t.Errorf("paths %q and %q; want through a relay", path(a, b), path(b, a))
		}
		if again := say(t, b, a); again > 30*time.Millisecond {
			t.Errorf("first byte on the open connection through the relay after %v", again)
		}
		_ = r1
		net.Heal([]*meshtest.Node{a}, []*meshtest.Node{b})
		took := net.WaitFor(2*time.Minute, "the straight path to be taken", func() bool {
			return path(a, b) == "direct" && path(b, a) == "direct"
		})
		t.Logf("straight again after %v", took)
		say(t, a, b)
	})
}

// pump sends a byte every 10 ms over one stream and returns the longest pause
// between arrivals, while during runs. All bytes must arrive, in order.
func pump(t *testing.T, from, to *meshtest.Node, during func()) (pause time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := from.Dial(ctx, to.Self(), "chat/1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	done := make(chan struct{})
	sent, arrived := 0, 0
	go func() {
		defer close(done)
		other, _, err := to.Accept(ctx, "chat/1")
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		buf := make([]byte, 1)
		for last := time.Now(); ; last = time.Now() {
			if _, err := io.ReadFull(other, buf); err != nil {
				return
			}
			if buf[0] != byte(arrived) {
				t.Errorf("byte %d arrived where byte %d should", buf[0], byte(arrived))
			}
			arrived++
			pause = max(pause, time.Since(last))
		}
	}()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		for ctx.Err() == nil {
			if _, err := conn.Write([]byte{byte(sent)}); err != nil {
				t.Errorf("write byte %d: %v", sent, err)
				return
			}
			sent++
			time.Sleep(10 * time.Millisecond)
		}
	}()
	time.Sleep(time.Second)
	during()
	time.Sleep(3 * time.Second)
	cancel()
	<-sending
	time.Sleep(time.Second)
	conn.Close()
	<-done
	if arrived != sent {
		t.Errorf("%d of %d bytes arrived", arrived, sent)
	}
	return pause
}

// The straight path dies under a running stream: a relay takes over.
func TestDirectToRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		_, _, a, b := relayed(t, net)
		net.Heal([]*meshtest.Node{a}, []*meshtest.Node{b})
		say(t, a, b)
		net.WaitFor(2*time.Minute, "the straight path", func() bool { return path(a, b) == "direct" && path(b, a) == "direct" })
		pause := pump(t, a, b, func() { net.Cut([]*meshtest.Node{a}, []*meshtest.Node{b}) })
		t.Logf("longest pause %v, then %q", pause, path(a, b))
		if pause > 1500*time.Millisecond {
			t.Errorf("the stream paused for %v", pause)
		}
		if !strings.HasPrefix(path(a, b), "via relay") {
			t.Errorf("path %q; want through a relay", path(a, b))
		}
	})
}

// The relay dies under a running stream: another takes over.
func TestRelayDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		r1, r2, a, b := relayed(t, net)
		say(t, a, b)
		pause := pump(t, a, b, func() {
			dead := map[string]*meshtest.Node{"via relay1": r1, "via relay2": r2}[path(a, b)]
			if dead == nil {
				t.Fatalf("path %q", path(a, b))
			}
			dead.Crash()
		})
		t.Logf("longest pause %v, then %q", pause, path(a, b))
		if pause > 1500*time.Millisecond {
			t.Errorf("the stream paused for %v", pause)
		}
	})
}

func TestRelayOffRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{Relay: mesh.RelayOff})
		o := meshtest.Options{Join: []*meshtest.Node{hub}, Protocols: []string{"chat/1"}}
		o.Addr = net.Addr()
		p := o
		p.Addr = net.Addr()
		net.CutAddrs(o.Addr, p.Addr)
		a, b := net.Start("a", o), net.Start("b", p)
		net.WaitFor(10*time.Second, "both to know each other", func() bool { return a.State(b) == mesh.Alive && b.State(a) == mesh.Alive })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if conn, err := a.Dial(ctx, b.Self(), "chat/1"); err == nil {
			conn.Close()
			t.Errorf("dialed through a node that does not relay, path %q", path(a, b))
		}
		if s := hub.Status(); s.RelayPassed != 0 {
			t.Errorf("the hub passed on %d messages", s.RelayPassed)
		}
	})
}

// The path is silent, not for long enough to be given up: what is on its way goes
// on with the first probe that is answered, not with QUIC's next probe time-out.
func TestShortSilence(t *testing.T) {
	var waits []time.Duration
	// In more than 500 ms three probes may go unanswered, which gives it up.
	for length := 300 * time.Millisecond; length < 500*time.Millisecond; length += 12 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			net := meshtest.New(t, lan)
			a := net.Start("a", meshtest.Options{Protocols: []string{"chat/1"}})
			b := net.Start("b", meshtest.Options{Protocols: []string{"chat/1"}, Join: []*meshtest.Node{a}})
			net.WaitFor(10*time.Second, "both to see both alive", allAlive(a, b))
			conn, err := a.Dial(t.Context(), b.Self(), "chat/1")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			far, _, err := b.Accept(t.Context(), "chat/1")
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			hear := func() {
				if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			tell(t, conn)
			hear()
			time.Sleep(time.Second)
			one, other := []*meshtest.Node{a}, []*meshtest.Node{b}
			net.Cut(one, other)
			tell(t, conn) // once, as who waits for an answer does
			time.Sleep(length)
			net.Heal(one, other)
			mended := time.Now()
			hear()
			waits = append(waits, time.Since(mended))
		})
	}
	slices.Sort(waits)
	worst := waits[len(waits)-1]
	t.Logf("after the silence: median %v, worst %v", waits[len(waits)/2], worst)
	if worst > 350*time.Millisecond { // a gap between probes, and some round trips
		t.Errorf("%v until data flowed again", worst)
	}
}

func tell(t *testing.T, to io.Writer) {
	t.Helper()
	if _, err := to.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}
