package peering_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

var (
	ula  = netip.MustParseAddrPort("[fd7f:175a:b97c:5602::7]:51821")
	ula2 = netip.MustParseAddrPort("[fd7f:175a:b97c:5602::8]:51821")
)

// spanned is a world in whose KubeSpan the member is, with a session in use.
func spanned(t *testing.T) *world {
	t.Helper()
	w := newWorld(home)
	w.answers[ula] = true
	w.do(w.SetKubeSpan(w.now, peer, []netip.AddrPort{ula}))
	w.do(w.Want(w.now, peer))
	w.do(w.SetInUse(w.now, peer, true))
	w.heardAlways = true
	w.run(time.Second)
	if w.path.Remote != ula || !w.path.KubeSpan || len(w.log) > 2 {
		t.Fatalf("on %v after %v; want the KubeSpan", w.path, w.log)
	}
	w.log = nil
	return w
}

// die lets the KubeSpan die, and what was heard by it.
func (w *world) die(d time.Duration) {
	w.answers[ula], w.heardAlways = false, false
	w.run(d)
	w.heardAlways = true
}

func TestKubeSpanIsPreferredToStraight(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	w.answers[ula] = true
	w.do(w.SetKubeSpan(w.now, peer, []netip.AddrPort{ula}))
	w.run(time.Second)
	w.want(t, "20ms up 192.0.2.1:51821", "1.02s moved "+ula.String())
}

func TestKubeSpanIsPreferredToRelay(t *testing.T) {
	w := newWorld()
	relay := identity.NodeID{9}
	w.do(w.SetRelays(w.now, []identity.NodeID{relay}))
	w.do(w.Want(w.now, peer))
	w.run(200 * ms)
	w.answers[ula] = true
	w.vias = map[identity.NodeID]time.Duration{relay: w.rtt}
	w.run(2 * time.Second)
	if !w.path.IsRelay() {
		t.Fatalf("on %v; want the relay", w.path)
	}
	w.do(w.SetKubeSpan(w.now, peer, []netip.AddrPort{ula}))
	w.run(100 * ms)
	if !w.path.KubeSpan {
		t.Errorf("on %v; want the KubeSpan", w.path)
	}
}

func TestDeadKubeSpanIsLeftWithinASecond(t *testing.T) {
	w := spanned(t)
	died := w.now
	w.die(time.Second)
	if w.path.Remote != home || len(w.log) != 1 {
		t.Fatalf("%v after the KubeSpan died: %v", w.now-died, w.log)
	}
	w.run(30 * time.Second)
	if len(w.log) != 1 {
		t.Errorf("paths changed on: %v", w.log)
	}
}

func TestKubeSpanThatIsGoneIsLeftAtOnce(t *testing.T) {
	w := spanned(t)
	w.do(w.SetKubeSpan(w.now, peer, nil))
	w.run(21 * ms)
	if w.path.Remote != home {
		t.Errorf("on %v: %v", w.path, w.log)
	}
	w.run(time.Minute)
	if len(w.log) != 2 {
		t.Errorf("paths: %v; want down, up", w.log)
	}
	// It appears again, at another address.
	w.answers[ula2] = true
	w.do(w.SetKubeSpan(w.now, peer, []netip.AddrPort{ula2}))
	w.run(5 * time.Second)
	if w.path.Remote != ula2 {
		t.Errorf("on %v: %v", w.path, w.log)
	}
}

func TestKubeSpanHasToBeSteadyBeforeItIsUsedAgain(t *testing.T) {
	w := spanned(t)
	w.die(20 * time.Second)
	w.log = nil
	w.answers[ula] = true
	before := w.requests
	var first time.Duration
	for w.path.Remote != ula && len(w.log) == 0 {
		w.run(ms)
		if first == 0 && w.requests > before {
			first = w.now
		}
		if w.now-first > time.Minute && first > 0 {
			t.Fatal("never back")
		}
	}
	if took := w.now - first; took < 2*time.Second || took > 3*time.Second {
		t.Errorf("back %v after the first probe that is answered; want three answers, a second apart", took)
	}
}

// A KubeSpan that is up for eight seconds and down for two, for ever, is soon
// left alone.
func TestKubeSpanThatFlaps(t *testing.T) {
	w := spanned(t)
	for range 60 {
		w.answers[ula] = true
		w.run(8 * time.Second)
		if w.path.Remote == ula {
			w.die(2 * time.Second)
		} else {
			w.answers[ula] = false
			w.run(2 * time.Second)
		}
		if w.path.IsZero() {
			t.Fatal("no path")
		}
	}
	if n := len(w.log); n > 6 {
		t.Errorf("%d changes in ten minutes: %s", n, strings.Join(w.log, ", "))
	}
}

func TestRestartIsNoDeathOfTheKubeSpan(t *testing.T) {
	w := spanned(t)
	w.do(w.Reset(w.now, peer))
	w.do(w.Want(w.now, peer))
	w.run(100 * ms)
	if w.path.Remote != ula {
		t.Errorf("on %v after %v; want the KubeSpan", w.path, w.log)
	}
}

// Two members that both wait for their KubeSpan to be steady do not probe each
// other back and forth.
func TestRequestsByAKubeSpanThatIsNotSteady(t *testing.T) {
	w := spanned(t)
	w.die(time.Second)
	back := 0
	for i := range 100 {
		for _, e := range w.Request(w.now, peer, peering.Route{Remote: ula, KubeSpan: true}, uint64(i), false) {
			if e.Kind == peering.SendRequest {
				back++
			}
		}
		w.now += 5 * ms
	}
	if back != 1 {
		t.Errorf("asked back %d times in half a second", back)
	}
}

// New endpoints in the record leave the address in the KubeSpan alone.
func TestSetCandidatesKeepsTheKubeSpan(t *testing.T) {
	w := spanned(t)
	w.SetCandidates(peer, []netip.AddrPort{away})
	w.run(time.Second)
	if w.path.Remote != ula || len(w.log) != 0 {
		t.Errorf("on %v after %v", w.path, w.log)
	}
	routes := 0
	w.do(w.Reset(w.now, peer))
	for _, r := range w.Routes(peer) {
		if r.KubeSpan {
			routes++
		}
	}
	if routes != 1 {
		t.Errorf("%d candidates in the KubeSpan, want 1", routes)
	}
}

// The first probe of a path is answered late, because everything has just
// started; that must not slow the look at it down for ever.
func TestSlowFirstAnswer(t *testing.T) {
	w := newWorld(home)
	w.rtt = 2 * time.Second
	w.answers[ula] = true
	w.do(w.SetKubeSpan(w.now, peer, []netip.AddrPort{ula}))
	w.do(w.Want(w.now, peer))
	w.run(5 * time.Second)
	w.rtt = 20 * ms
	w.do(w.SetInUse(w.now, peer, true))
	w.heardAlways = true
	w.run(time.Second)
	if w.path.Remote != ula {
		t.Fatalf("on %v", w.path)
	}
	w.die(time.Second)
	if w.path.Remote != home {
		t.Errorf("on %v a second after the KubeSpan died: %v", w.path, w.log)
	}
}
