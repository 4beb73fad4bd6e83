package peering_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

var ours, door, other = identity.NodeID{8}, identity.NodeID{9}, identity.NodeID{10}

// The relays that a member keeps a path to are tried before ours.
func TestDoorsComeFirst(t *testing.T) {
	w := newWorld(home)
	w.answers = nil
	w.SetRelays(w.now, []identity.NodeID{ours, door})
	w.SetDoors(peer, []identity.NodeID{door, other, peer})
	w.do(w.Want(w.now, peer))
	at := make(map[identity.NodeID][]time.Duration)
	for start := w.now; w.now < start+400*ms; {
		w.lastRequests = nil
		w.run(ms)
		for _, e := range w.lastRequests {
			at[e.Route.Via] = append(at[e.Route.Via], w.now-start-ms)
		}
	}
	const want = "map[door:[100ms 300ms] other:[100ms 300ms] ours:[300ms] peer:[]]"
	if got := fmt.Sprint(map[string][]time.Duration{"ours": at[ours], "door": at[door], "other": at[other], "peer": at[peer]}); got != want {
		t.Errorf("relays asked at %s, want %s", got, want)
	}
}

// In use, the path moves to a relay that is clearly faster, and stays there.
func TestFasterRelayIsTaken(t *testing.T) {
	for _, c := range []struct {
		name       string
		ours, door time.Duration
		moves      bool
	}{{"much", 40 * ms, 100 * ms, true}, {"little", 90 * ms, 100 * ms, false}, {"short ways", 2 * ms, 6 * ms, false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(home)
			w.answers, w.heardAlways = nil, true
			w.vias = map[identity.NodeID]time.Duration{ours: c.ours, door: c.door}
			w.SetRelays(w.now, []identity.NodeID{ours, door})
			w.SetDoors(peer, []identity.NodeID{door})
			w.do(w.Want(w.now, peer))
			w.run(10 * time.Minute)
			log := []string{fmt.Sprintf("%v up via %s", 100*ms+c.door, door.Short())}
			w.want(t, log...) // unused, it is nothing to ask for
			w.do(w.SetInUse(w.now, peer, true))
			used := w.now
			w.run(10 * time.Minute)
			if !c.moves {
				w.want(t, log...)
				return
			}
			if s := w.Status(peer); s.Route.Via != ours || len(w.log) != 2 || s.Since-used > time.Minute+time.Second {
				t.Errorf("%q, on %v since %v", w.log, s.Route, s.Since-used)
			}
		})
	}
}

// A member that goes on through another relay, because it does not hear from ours
// any more, is heard itself all the time; its requests must still move our path.
// Where both relays work, requests by the other one move nothing.
func TestMemberOnAnotherRelayIsFollowed(t *testing.T) {
	for name, works := range map[string]bool{"path is dead": false, "path is alive": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(home)
			w.answers, w.heardAlways = nil, true
			w.vias = map[identity.NodeID]time.Duration{ours: 50 * ms}
			w.SetRelays(w.now, []identity.NodeID{ours, door})
			w.do(w.Want(w.now, peer))
			w.run(10 * time.Second)
			w.vias[door] = 45 * ms
			if !works {
				delete(w.vias, ours)
			}
			w.do(w.Request(w.now, peer, peering.Route{Via: door}, 99, false))
			asked, before := w.now, w.requests
			w.run(time.Second)
			s := w.Status(peer)
			switch {
			case works && (s.Route.Via != ours || len(w.log) != 1 || s.Doubt):
				t.Errorf("paths: %v; want %v all the time", w.log, ours.Short())
			case works && w.requests-before > 0:
				t.Errorf("%d probes after the first two", w.requests-before)
			case !works && (s.Route.Via != door || s.Since-asked > 650*ms):
				t.Errorf("on %v after %v: %v; want %v within 0.65 s", s.Route, s.Since-asked, w.log, door.Short())
			}
		})
	}
}

// A path through a relay that was silent for long is asked along with all others
// when it is used again: routers may have forgotten it.
func TestStaleRelayIsRaced(t *testing.T) {
	for _, c := range []struct {
		idle, bound time.Duration
	}{{10 * time.Second, 400 * ms}, {time.Minute, 60 * ms}} {
		w := newWorld(home)
		w.answers = nil
		w.vias = map[identity.NodeID]time.Duration{ours: 50 * ms}
		w.SetRelays(w.now, []identity.NodeID{ours, door})
		w.do(w.Want(w.now, peer))
		w.run(time.Second)
		w.vias = map[identity.NodeID]time.Duration{door: 50 * ms}
		w.run(c.idle)
		w.do(w.SetInUse(w.now, peer, true))
		used := w.now
		w.run(time.Second)
		if s := w.Status(peer); s.Route.Via != door || s.Since-used > c.bound {
			t.Errorf("after %v: on %v after %v; want the other relay within %v", c.idle, s.Route, s.Since-used, c.bound)
		}
	}
}

// What goes to a member after a long silence is announced by one probe, on a
// straight path only.
func TestShow(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	show := func() int {
		before := w.requests
		w.do(w.Show(w.now, peer))
		return w.requests - before
	}
	if n := show(); n != 0 {
		t.Errorf("%d probes on a path that was just asked", n)
	}
	w.run(25 * time.Second)
	if first, second := show(), show(); first != 1 || second != 0 {
		t.Errorf("%d and %d probes, want one", first, second)
	}
	relayed := newWorld()
	relayed.vias = map[identity.NodeID]time.Duration{ours: 50 * ms}
	relayed.SetRelays(relayed.now, []identity.NodeID{ours})
	relayed.do(relayed.Want(relayed.now, peer))
	relayed.run(time.Minute)
	if s := relayed.Status(peer); s.Route.Via != ours || relayed.Show(relayed.now, peer) != nil {
		t.Errorf("on %v: a probe that the relay's own path has announced already", s.Route)
	}
	var _ []peering.Effect = relayed.Show(relayed.now, other) // never heard of
}
