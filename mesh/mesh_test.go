package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/meshtest"
	"github.com/serialspan/serialspan/mesh/roster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lan is a link with a round trip of 20 ms.
var lan = meshtest.Link{Delay: 10 * time.Millisecond}

func allAlive(nodes ...*meshtest.Node) func() bool {
	return func() bool {
		for _, a := range nodes {
			for _, b := range nodes {
				if a.State(b) != mesh.Alive {
					return false
				}
			}
		}
		return true
	}
}

// say opens a stream from one node to another, and returns how long it took
// until the other had the first byte.
func say(t *testing.T, from, to *meshtest.Node) time.Duration {
	t.Helper()
	start := time.Now()
	arrived := make(chan time.Duration, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		conn, who, err := to.Accept(ctx, "chat/1")
		if err != nil {
			t.Error(err)
			arrived <- 0
			return
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil || who != from.Self() {
			t.Errorf("read from %v: %v", who, err)
		}
		arrived <- time.Since(start)
	}()
	conn, err := from.Dial(ctx, to.Self(), "chat/1")
	for err != nil && ctx.Err() == nil { // as those who dial do; the time counts
		conn, err = from.Dial(ctx, to.Self(), "chat/1")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return <-arrived
}

func TestThreeNodesJoinAndTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		chat := meshtest.Options{Protocols: []string{"chat/1"}}
		hub := net.Start("hub", chat)
		chat.Join = []*meshtest.Node{hub}
		edge := net.Start("edge", chat)
		consumer := net.Start("consumer", chat)
		took := net.WaitFor(2*time.Second, "all to see all alive", allAlive(hub, edge, consumer))
		t.Logf("three nodes see each other after %v", took)

		first := say(t, consumer, edge)
		if first > 200*time.Millisecond {
			t.Errorf("first byte between two nodes that never spoke after %v; want under 200 ms", first)
		}
		again := say(t, consumer, edge)
		if again > 15*time.Millisecond {
			t.Errorf("first byte on the open connection after %v; want one way", again)
		}
		t.Logf("first byte cold %v, warm %v", first, again)
	})
}

// The edge loses its power and comes back with a new WireGuard key and epoch;
// the others follow it without a restart, and nowhere does a handshake wait for
// WireGuard's 5 s retry.
func TestCrashedNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		chat := meshtest.Options{Protocols: []string{"chat/1"}}
		hub := net.Start("hub", chat)
		chat.Join = []*meshtest.Node{hub}
		edge := net.Start("edge", chat)
		consumer := net.Start("consumer", chat)
		net.WaitFor(2*time.Second, "all to see all alive", allAlive(hub, edge, consumer))
		say(t, consumer, edge)
		before, _ := consumer.Member(edge)

		edge.Crash()
		edge = edge.Restart()
		knows := net.WaitFor(2*time.Second, "the consumer to know the new record", func() bool {
			m, _ := consumer.Member(edge)
			return m.Epoch > before.Epoch
		})
		first := say(t, consumer, edge)
		if first > 300*time.Millisecond {
			t.Errorf("first byte to the restarted node after %v", first)
		}
		t.Logf("new record known after %v, first byte after %v more", knows, first)
		net.WaitFor(10*time.Second, "all to see all alive again", allAlive(hub, edge, consumer))
	})
}

func TestLeavingIsToldFromCrashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		leaver := net.Start("leaver", meshtest.Options{Join: []*meshtest.Node{hub}})
		crasher := net.Start("crasher", meshtest.Options{Join: []*meshtest.Node{hub}})
		net.WaitFor(2*time.Second, "all to see all alive", allAlive(hub, leaver, crasher))
		leaver.Stop()
		net.WaitFor(5*time.Second, "the hub to see the leaver left", func() bool { return hub.State(leaver) == mesh.Left })
		crasher.Crash()
		took := net.WaitFor(2*time.Minute, "the hub to see the crasher dead", func() bool { return hub.State(crasher) == mesh.Dead })
		t.Logf("crash noticed after %v", took)
		if hub.State(leaver) != mesh.Left {
			t.Errorf("leaver is %v now; want left still", hub.State(leaver))
		}
	})
}

// A node that starts before anybody it could join keeps trying, and is in soon
// after they are there.
func TestJoinIsRetriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		hub.Crash()
		early := net.Start("early", meshtest.Options{Join: []*meshtest.Node{hub}})
		time.Sleep(time.Hour)
		if err := early.Joins()[0].Err; err == nil {
			t.Error("an hour without an answer, and no problem is shown")
		}
		hub = hub.Restart()
		took := net.WaitFor(time.Minute, "the early node to be in", allAlive(hub, early))
		t.Logf("in %v after the hub came up", took)
		if err := early.Joins()[0].Err; err != nil {
			t.Errorf("joined, but still shows: %v", err)
		}
	})
}

func TestWrongSecretGetsNoAnswerAndLeavesNoState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		other := identity.SecretOf(net.Secret().Cluster, 1, [32]byte{1, 2, 3})
		stranger := net.Start("stranger", meshtest.Options{Join: []*meshtest.Node{hub}, Secret: other})
		time.Sleep(time.Minute)
		if members := hub.Members(); len(members) != 1 {
			t.Errorf("the hub knows %d members; want itself", len(members))
		}
		if s := hub.Status(); s.JoinAnswered != 0 || s.JoinJunk == 0 || len(s.JunkSources) != 1 || s.JunkSources[0].Source.Addr() != stranger.Addr.Addr() {
			t.Errorf("hub's counters: %+v", s)
		}
		if err := stranger.Joins()[0].Err; !errors.Is(err, mesh.ErrNoAnswer) || !strings.Contains(err.Error(), "serialspan secret id") {
			t.Errorf("the stranger is told: %v", err)
		}
	})
}

func TestJunkIsCountedAndNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		source := rand.New(rand.NewPCG(1, 2))
		var junk [][]byte
		for i := range 10000 {
			d := make([]byte, 1+source.IntN(1400))
			for j := range d {
				d[j] = byte(source.Uint32())
			}
			d[0] = byte(i % 12) // every type there is, and some that there are not
			if d[0] >= 5 && d[0] <= 7 && i%2 == 0 {
				d = append(d, make([]byte, 1200)...)[:1200]
			}
			junk = append(junk, d)
		}
		before := hub.Status()
		answers := net.Inject(netip.MustParseAddrPort("203.0.113.66:6666"), hub, junk, 10*time.Second)
		if answers != 0 {
			t.Errorf("%d answers to junk", answers)
		}
		after := hub.Status()
		counted := after.JoinJunk - before.JoinJunk + after.JoinLimited - before.JoinLimited + after.JoinStray - before.JoinStray +
			after.Strangers - before.Strangers + after.ControlDropped - before.ControlDropped
		// Types 1 to 4 are WireGuard's, which counts nothing; the rest is ours.
		if want := uint64(10000 * 8 / 12); counted < want {
			t.Errorf("%d junk datagrams counted; want at least %d: %+v", counted, want, after)
		}
	})
}

func TestBroadcastReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		var mu sync.Mutex
		got := map[string]string{}
		options := func(name string, join ...*meshtest.Node) meshtest.Options {
			return meshtest.Options{Join: join, OnBroadcast: func(m []byte) {
				mu.Lock()
				defer mu.Unlock()
				got[name] = string(m)
			}}
		}
		a := net.Start("a", options("a"))
		b := net.Start("b", options("b", a))
		c := net.Start("c", options("c", a))
		net.WaitFor(2*time.Second, "all to see all alive", allAlive(a, b, c))
		b.Broadcast(strings.Repeat("a long name ", 10), []byte("news"))
		net.WaitFor(5*time.Second, "a and c to have the news", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return got["a"] == "news" && got["c"] == "news"
		})
	})
}

// A lossy link: everything still comes up.
func TestJoinOverLossyLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, meshtest.Link{Delay: 30 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.2})
		chat := meshtest.Options{Protocols: []string{"chat/1"}}
		hub := net.Start("hub", chat)
		chat.Join = []*meshtest.Node{hub}
		edge := net.Start("edge", chat)
		took := net.WaitFor(30*time.Second, "both to see each other", allAlive(hub, edge))
		first := say(t, hub, edge)
		t.Logf("joined after %v, first byte after %v more, with 20 %% loss", took, first)
	})
}

// A mesh that is cut apart for long has no WireGuard peers left.
func TestPeersOfTheDeadAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		a := net.Start("a", meshtest.Options{})
		b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{a}})
		net.WaitFor(2*time.Second, "both to see each other", allAlive(a, b))
		b.Crash()
		net.WaitFor(15*time.Minute, "a to remove its peer", func() bool { return a.Peers() == 0 })
	})
}

// A seed that is gone is not needed: a node comes back through anybody it knew.
func TestComesBackThroughAnyMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		seed := net.Start("seed", meshtest.Options{})
		b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{seed}})
		c := net.Start("c", meshtest.Options{Join: []*meshtest.Node{seed}})
		net.WaitFor(2*time.Second, "all to see all alive", allAlive(seed, b, c))
		c.Stop()
		seed.Crash()
		c = c.Restart()
		net.WaitFor(time.Minute, "c to be in again without its seed", func() bool { return c.State(b) == mesh.Alive })
	})
}

// A state directory restored from a backup: the node jumps over its own later
// records instead of being taken for older.
func TestRestoredStateDirectoryJumpsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		edge := net.Start("edge", meshtest.Options{Join: []*meshtest.Node{hub}})
		for range 5 {
			net.WaitFor(20*time.Second, "both to see each other", allAlive(hub, edge))
			edge.Crash()
			edge = edge.Restart()
		}
		net.WaitFor(20*time.Second, "both to see each other", allAlive(hub, edge))
		before, _ := hub.Member(edge)
		edge.Crash()
		if err := os.WriteFile(filepath.Join(edge.Dir, "epoch"), []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		edge = edge.Restart()
		net.WaitFor(10*time.Second, "the hub to know the later epoch", func() bool {
			m, _ := hub.Member(edge)
			return m.Epoch > before.Epoch && m.State == mesh.Alive
		})
	})
}

// Once the idle WireGuard peers were removed on both sides, the first byte from
// either side is there at once all the same.
func TestIdlePeersAreRemovedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		chat := meshtest.Options{Protocols: []string{"chat/1"}}
		a := net.Start("a", chat)
		chat.Join = []*meshtest.Node{a}
		b := net.Start("b", chat)
		net.WaitFor(2*time.Second, "both to see each other", allAlive(a, b))
		for _, pair := range [][2]*meshtest.Node{{a, b}, {b, a}, {a, b}, {b, a}} {
			a.RemoveIdlePeers()
			b.RemoveIdlePeers()
			if first := say(t, pair[0], pair[1]); first > 250*time.Millisecond {
				t.Errorf("first byte from %s after the peers were removed took %v", pair[0].Name, first)
			}
		}
	})
}

// The wall clock of one node goes back by ten years while it is in touch with
// the others, after both sides have initiated handshakes. Its WireGuard key is
// burnt then: WireGuard itself would never speak to it again. (That it would
// is shown with a real clock in tests/; here the clock is ours.)
func TestClockGoesBack(t *testing.T) {
	for _, who := range []string{"a", "b"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				var back atomic.Bool
				wall := func() time.Time {
					if back.Load() {
						return time.Now().AddDate(-10, 0, 0)
					}
					return time.Now()
				}
				chat := map[string]meshtest.Options{}
				for _, name := range []string{"a", "b"} {
					o := meshtest.Options{Protocols: []string{"chat/1"}}
					if name == who {
						o.Wall = wall
					}
					chat[name] = o
				}
				a := net.Start("a", chat["a"])
				o := chat["b"]
				o.Join = []*meshtest.Node{a}
				b := net.Start("b", o)
				net.WaitFor(2*time.Second, "both to see each other", allAlive(a, b))
				time.Sleep(5 * time.Minute) // rekeys happen
				stepped := map[string]*meshtest.Node{"a": a, "b": b}[who]
				before := stepped.Status()
				back.Store(true)
				time.Sleep(10 * time.Minute)
				if first := say(t, a, b); first > 300*time.Millisecond {
					t.Errorf("first byte ten minutes after the step took %v", first)
				}
				say(t, b, a)
				other := a
				if who == "a" {
					other = b
				}
				// Of a pair only the smaller NodeID initiates, so only its clock matters.
				initiates := stepped.Self().Compare(other.Self()) < 0
				if after := stepped.Status(); initiates != (after.Sequence > before.Sequence) {
					t.Errorf("initiates: %v; record went from sequence %d to %d", initiates, before.Sequence, after.Sequence)
				}
				if a.State(b) != mesh.Alive || b.State(a) != mesh.Alive {
					t.Error("they lost each other")
				}
			})
		})
	}
}

func TestPingShowsRoundTripAndSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		a := net.Start("a", meshtest.Options{})
		b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{a}, Wall: func() time.Time { return time.Now().AddDate(-10, 0, 0) }})
		net.WaitFor(2*time.Second, "both to see each other", allAlive(a, b))
		behind := time.Since(time.Now().AddDate(-10, 0, 0))
		var pongs []mesh.Pong
		err := a.Ping(t.Context(), b.Self(), 3, time.Second, func(p mesh.Pong) bool { pongs = append(pongs, p); return true })
		if err != nil || len(pongs) != 3 {
			t.Fatalf("%d answers, %v", len(pongs), err)
		}
		if p := pongs[2]; p.RoundTrip != 20*time.Millisecond || (p.Skew+behind).Abs() > time.Second || p.Path != "direct" {
			t.Errorf("%+v; want 20 ms, skew %v, direct", p, -behind)
		}
		if m, _ := a.Member(b); !m.SkewKnown || (m.Skew+behind).Abs() > time.Second {
			t.Errorf("members show skew %v, %v; want %v", m.Skew, m.SkewKnown, -behind)
		}
	})
}

// A member that claims the WireGuard key of another gets nothing by it.
func TestKeyOfAnotherCannotBeClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		chat := meshtest.Options{Protocols: []string{"chat/1"}}
		hub := net.Start("hub", chat)
		chat.Join = []*meshtest.Node{hub}
		victim := net.Start("victim", chat)
		net.WaitFor(2*time.Second, "both to see each other", allAlive(hub, victim))
		say(t, hub, victim)

		thief, err := identity.Generate()
		if err != nil {
			t.Fatal(err)
		}
		for sequence, key := range map[uint64]identity.WireGuardKey{
			1: hub.RecordOf(victim.Self()).Record().WireGuard, 2: hub.RecordOf(hub.Self()).Record().WireGuard,
		} {
			record := hub.RecordOf(victim.Self()).Record()
			record.Name, record.Key, record.WireGuard, record.Sequence = "thief", nil, key, sequence
			signed, err := roster.Sign(thief, net.Secret().Cluster, record)
			if err != nil {
				t.Fatal(err)
			}
			hub.Hear(signed)
		}
		if !hub.RecordOf(thief.ID()).IsZero() {
			t.Error("the hub took the thief's record")
		}
		time.Sleep(10 * time.Minute)
		if hub.State(victim) != mesh.Alive {
			t.Errorf("the victim is %v", hub.State(victim))
		}
		say(t, hub, victim)
	})
}

// A seed that came back by joining us is no problem any more.
func TestSeedThatJoinsUsIsFine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		hub := net.Start("hub", meshtest.Options{})
		edge := net.Start("edge", meshtest.Options{Join: []*meshtest.Node{hub}})
		net.WaitFor(2*time.Second, "both to see each other", allAlive(hub, edge))
		hub.Crash()
		net.WaitFor(5*time.Minute, "the edge to miss its seed", func() bool { return edge.Joins()[0].Err != nil })
		hub = hub.Restart()
		net.WaitFor(time.Minute, "both to see each other", allAlive(hub, edge))
		time.Sleep(time.Minute)
		if err := edge.Joins()[0].Err; err != nil {
			t.Errorf("the edge still says: %v", err)
		}
	})
}

// A node with many addresses that are dead still gets in through the one that
// is not: none pushes another out.
func TestManyDeadAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		there := net.Start("there", meshtest.Options{})
		var addresses []string
		for i := range 100 {
			addresses = append(addresses, fmt.Sprintf("203.0.113.%d", i))
		}
		addresses = append(addresses, there.Addr.String())
		back := net.Start("back", meshtest.Options{JoinAddress: addresses})
		took := net.WaitFor(2*time.Minute, "it to be in", allAlive(there, back))
		t.Logf("in after %v", took)
	})
}

// With an allowlist, the secret alone is not enough.
func TestNotAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		var friend identity.NodeID
		hub := net.Start("hub", meshtest.Options{Admit: func(id identity.NodeID) bool { return id == friend }})
		thief := net.Start("thief", meshtest.Options{Join: []*meshtest.Node{hub}})
		time.Sleep(time.Minute)
		if len(hub.Members()) != 1 {
			t.Errorf("the hub knows %d members", len(hub.Members()))
		}
		if err := thief.Joins()[0].Err; err == nil || !strings.Contains(err.Error(), "cluster.allow") {
			t.Errorf("the one that was not admitted is told: %v", err)
		}
	})
}

func TestGoneMemberIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		brief := meshtest.Options{ForgetAfter: time.Hour}
		a := net.Start("a", brief)
		brief.Join = []*meshtest.Node{a}
		b, c := net.Start("b", brief), net.Start("c", brief)
		net.WaitFor(5*time.Second, "all to see all alive", allAlive(a, b, c))
		c.Crash()
		knows := func(n *meshtest.Node) func() bool { return func() bool { _, ok := n.Member(c); return ok } }
		time.Sleep(50 * time.Minute)
		if !knows(a)() || !knows(b)() {
			t.Error("forgotten too early")
		}
		net.WaitFor(15*time.Minute, "a and b to forget c", func() bool { return !knows(a)() && !knows(b)() })
		time.Sleep(10 * time.Minute)
		if knows(a)() || knows(b)() {
			t.Error("it was raised from the dead")
		}
		c = c.Restart()
		net.WaitFor(time.Minute, "c to be back", allAlive(a, b, c))
	})
}
