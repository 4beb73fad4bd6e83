package peering_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

const ms = time.Millisecond

var (
	peer = identity.NodeID{7}
	home = netip.MustParseAddrPort("192.0.2.1:51821")
	away = netip.MustParseAddrPort("198.51.100.1:51821")
)

// world runs a machine against a member whose addresses answer or not. Time
// passes in steps of one millisecond; answers take rtt.
type world struct {
	*peering.Machine
	now          time.Duration
	rtt          time.Duration
	answers      map[netip.AddrPort]bool
	vias         map[identity.NodeID]time.Duration // round trips through relays that answer
	sent, heard  time.Duration
	heardAlways  bool
	pending      []answer
	log          []string
	tokens       uint64
	requests     int
	introduced   []time.Duration
	path         peering.Route
	lastRequests []peering.Effect
}

type answer struct {
	at    time.Duration
	route peering.Route
	token uint64
}

func newWorld(addrs ...netip.AddrPort) *world {
	w := &world{now: time.Second, rtt: 20 * ms, answers: make(map[netip.AddrPort]bool)}
	w.Machine = peering.New(func() uint64 { w.tokens++; return w.tokens })
	w.SetCandidates(peer, addrs)
	for _, a := range addrs {
		w.answers[a] = true
	}
	return w
}

func (w *world) activity(identity.NodeID) (sent, heard time.Duration) { return w.sent, w.heard }

func (w *world) do(effects []peering.Effect) {
	for _, e := range effects {
		switch e.Kind {
		case peering.SendRequest:
			w.requests++
			w.lastRequests = append(w.lastRequests, e)
			took, ok := w.vias[e.Route.Via]
			if !e.Route.IsRelay() {
				took, ok = w.rtt, w.answers[e.Route.Remote]
			}
			if ok {
				w.pending = append(w.pending, answer{w.now + took, e.Route, e.Token})
				slices.SortStableFunc(w.pending, func(a, b answer) int { return cmp.Compare(a.at, b.at) })
			}
		case peering.Introduce:
			w.introduced = append(w.introduced, w.now)
		case peering.PathBack:
			w.log = append(w.log, fmt.Sprintf("%v back", w.now-time.Second))
		case peering.PathUp, peering.PathMoved, peering.PathDown:
			w.path = e.Route
			name := map[peering.EffectKind]string{peering.PathUp: "up", peering.PathMoved: "moved", peering.PathDown: "down"}[e.Kind]
			w.log = append(w.log, fmt.Sprintf("%v %s %s", w.now-time.Second, name, e.Route))
		}
	}
}

func (w *world) run(d time.Duration) {
	for end := w.now + d; w.now < end; w.now += ms {
		if w.heardAlways {
			w.heard = w.now
		}
		for len(w.pending) > 0 && w.pending[0].at <= w.now {
			a := w.pending[0]
			w.pending = w.pending[1:]
			w.do(w.Answer(w.now, peer, a.route, a.token))
		}
		effects, _ := w.Tick(w.now, w.activity)
		w.do(effects)
	}
}

func (w *world) want(t *testing.T, log ...string) {
	t.Helper()
	if !slices.Equal(w.log, log) {
		t.Errorf("paths:\n  %s\nwant:\n  %s", strings.Join(w.log, "\n  "), strings.Join(log, "\n  "))
	}
}

func TestPathUpAfterOneRoundTrip(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	w.want(t, "20ms up 192.0.2.1:51821")
	if s := w.Status(peer); s.RoundTrip != 20*ms {
		t.Errorf("round trip %v", s.RoundTrip)
	}
}

func TestSearchSchedule(t *testing.T) {
	w := newWorld(home, away)
	w.answers = nil
	w.do(w.Want(w.now, peer))
	var rounds []time.Duration
	for range 70000 {
		before := w.requests
		w.run(ms)
		if w.requests > before {
			rounds = append(rounds, w.now-ms-time.Second)
		}
	}
	// The first round left with Want; the search ends a minute after it.
	want := []time.Duration{100, 300, 700, 1500, 3100, 6300, 12700, 25500, 50500}
	for i := range want {
		want[i] *= ms
	}
	if !slices.Equal(rounds, want) {
		t.Errorf("rounds at %v; want %v", rounds, want)
	}
	// Two candidates: with the second round, and then at least 2 s apart.
	if len(w.introduced) < 4 || w.introduced[0]-time.Second != 100*ms || w.introduced[2]-time.Second != 3100*ms {
		t.Errorf("introduced at %v; want with the second round and at least 2 s apart", w.introduced)
	}
	before := w.requests
	w.do(w.Want(w.now, peer))
	if w.requests != before+2 {
		t.Errorf("a new Want sent %d probes; want one to each candidate", w.requests-before)
	}
}

func TestIdleMemberIsLeftAlone(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	before := w.requests
	w.run(10 * time.Minute)
	if w.requests != before {
		t.Errorf("%d probes to an idle member", w.requests-before)
	}
	if got := w.log; len(got) != 1 {
		t.Errorf("paths: %v", got)
	}
}

// Through a NAT on our side, a path is kept open to those by whom others reach us.
func TestKeptPathIsShownSomething(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	w.SetKept([]identity.NodeID{peer})
	before := w.requests
	w.run(10 * time.Minute)
	if n := w.requests - before; n < 23 || n > 25 {
		t.Errorf("%d probes in ten minutes; want one every 25 s", n)
	}
	if len(w.log) != 1 {
		t.Errorf("paths: %v", w.log)
	}
	for range 20 {
		w.sent, w.heard = w.now, w.now // it is not silent
		w.run(20 * time.Second)
	}
	if n := w.requests - before; n > 25 {
		t.Errorf("%d probes of a path that is used", n-24)
	}
	w.SetKept(nil)
	before = w.requests
	w.run(10 * time.Minute)
	if w.requests != before {
		t.Errorf("%d probes of a path that is not kept any more", w.requests-before)
	}
}

// Others search a member for our sake only at its own addresses, and not for ever.
func TestWantStraightAsksNoRelays(t *testing.T) {
	w := newWorld(home)
	w.answers = nil
	relay := identity.NodeID{8}
	w.SetRelays(w.now, []identity.NodeID{relay})
	w.do(w.WantStraight(w.now, peer))
	w.run(3 * time.Minute)
	for _, e := range w.lastRequests {
		if e.Route.IsRelay() {
			t.Fatalf("probed through %v", e.Route)
		}
	}
	if w.requests < 5 || w.requests > 12 || len(w.introduced) != 0 {
		t.Errorf("%d probes, introduced at %v", w.requests, w.introduced)
	}
	w.do(w.Want(w.now, peer))
	w.run(time.Second)
	if !slices.ContainsFunc(w.lastRequests, func(e peering.Effect) bool { return e.Route.IsRelay() }) {
		t.Error("for our own sake no relay was asked")
	}
}

func TestOnlyAnAnswerMakesAPath(t *testing.T) {
	w := newWorld(home)
	w.answers = nil
	w.do(w.Want(w.now, peer))
	route := peering.Route{Remote: home}
	token := w.lastRequests[0].Token
	w.do(w.Answer(w.now, peer, route, token+1000))
	w.do(w.Answer(w.now, identity.NodeID{8}, route, token))
	w.do(w.Request(w.now, peer, peering.Route{Remote: away}, 1, false))
	if len(w.log) != 0 {
		t.Errorf("a wrong token, a wrong member or a request made a path: %v", w.log)
	}
	w.now += 6 * time.Second
	w.do(w.Answer(w.now, peer, route, token))
	if len(w.log) != 0 {
		t.Error("an answer that came far too late made a path")
	}
}

func TestSessionNoticesDeadPathWithinASecondAndReturns(t *testing.T) {
	w := newWorld(home)
	w.do(w.SetInUse(w.now, peer, true))
	w.run(500 * ms)
	w.answers[home] = false
	w.run(5 * time.Second)
	w.answers[home] = true
	w.run(2 * time.Second)
	if len(w.log) != 3 {
		t.Fatalf("paths: %v; want up, down, up", w.log)
	}
	at := func(line string) time.Duration {
		d, err := time.ParseDuration(strings.Fields(line)[0])
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	down, up := at(w.log[1]), at(w.log[2])
	if down < 500*ms || down > 1600*ms {
		t.Errorf("path dead after %v; the member went silent at 0.5 s", down)
	}
	if up > 6600*ms {
		t.Errorf("path back after %v; the member was back at 5.5 s", up)
	}
}

// A path that is silent for less than it takes to give it up is told of when it
// answers again, and only then.
func TestSilenceThatEnds(t *testing.T) {
	w := newWorld(home)
	w.do(w.SetInUse(w.now, peer, true))
	w.run(500 * ms)
	w.answers[home] = false
	w.run(400 * ms)
	w.answers[home] = true
	w.run(2 * time.Second)
	if len(w.log) != 2 || !strings.HasSuffix(w.log[1], " back") {
		t.Errorf("paths: %v; want up, back", w.log)
	}
}

func TestOtherCandidateTakesOver(t *testing.T) {
	w := newWorld(home, away)
	w.answers[away] = false
	w.do(w.SetInUse(w.now, peer, true))
	w.run(500 * ms)
	w.answers[home], w.answers[away] = false, true
	w.run(2 * time.Second)
	if w.path.Remote != away || len(w.log) != 2 || !strings.Contains(w.log[1], "moved") {
		t.Errorf("paths: %v; want one move to %v", w.log, away)
	}
}

// A member that roams goes on sending from its new address, so its data is
// heard all the time. Its requests from there must still move our path.
func TestRoamingMemberIsFollowed(t *testing.T) {
	w := newWorld(home)
	w.heardAlways = true
	w.do(w.SetInUse(w.now, peer, true))
	w.run(2 * time.Second)
	w.answers[home], w.answers[away] = false, true
	w.do(w.Request(w.now, peer, peering.Route{Remote: away}, 99, false))
	w.run(time.Second)
	if w.path.Remote != away {
		t.Errorf("paths: %v; want a move to %v", w.log, away)
	}
}

// A member with two addresses that both work must not make the path flap.
func TestRequestFromElsewhereDoesNotMoveAGoodPath(t *testing.T) {
	w := newWorld(home, away)
	w.rtt = 10 * ms
	w.answers[away] = false
	w.do(w.Want(w.now, peer))
	w.run(200 * ms)
	w.answers[away] = true
	for range 20 {
		w.do(w.Request(w.now, peer, peering.Route{Remote: away}, 99, false))
		w.run(300 * ms)
	}
	if len(w.log) != 1 || w.path.Remote != home {
		t.Errorf("paths: %v; want %v all the time", w.log, home)
	}
}

func TestRequestIsAnsweredWhereItCameFromAndAskedBack(t *testing.T) {
	w := newWorld()
	effects := w.Request(w.now, peer, peering.Route{Remote: away, Local: home.Addr()}, 42, true)
	kinds := []peering.EffectKind{}
	for _, e := range effects {
		kinds = append(kinds, e.Kind)
		if e.Kind == peering.SendAnswer && (e.Token != 42 || e.Route.Remote != away || e.Route.Local != home.Addr()) {
			t.Errorf("answer %+v", e)
		}
	}
	if want := []peering.EffectKind{peering.SendAnswer, peering.Initiate, peering.SendRequest, peering.ReplyBy}; !slices.Equal(kinds, want) {
		t.Errorf("effects %v; want %v", kinds, want)
	}
	// Nobody answers our request: the way back is not known to work.
	w.now += 900 * ms
	if effects, _ := w.Tick(w.now, w.activity); slices.ContainsFunc(effects, isReplyBy) {
		t.Errorf("effects %+v after 900 ms", effects)
	}
	w.now += 100 * ms
	effects, _ = w.Tick(w.now, w.activity)
	if i := slices.IndexFunc(effects, isReplyBy); i < 0 || !effects[i].Route.IsZero() {
		t.Errorf("effects %+v after a second, want an end of replies", effects)
	}
	for _, e := range w.Request(w.now, other, peering.Route{Remote: ula, KubeSpan: true}, 43, false) {
		if e.Kind == peering.ReplyBy {
			t.Errorf("%+v, by a KubeSpan that is not known to answer", e)
		}
	}
}

func isReplyBy(e peering.Effect) bool { return e.Kind == peering.ReplyBy }

func TestAnnounceAsksForAHandshake(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(100 * ms)
	effects := w.Announce(w.now, peer, true)
	if len(effects) != 1 || !effects[0].Ask || effects[0].Route.Remote != home {
		t.Errorf("asked with %+v", effects)
	}
}

func TestResetTakesThePathAway(t *testing.T) {
	w := newWorld(home)
	w.do(w.Want(w.now, peer))
	w.run(100 * ms)
	w.do(w.Reset(w.now, peer))
	w.run(200 * ms)
	if len(w.log) != 3 || !strings.Contains(w.log[1], "down") || !strings.Contains(w.log[2], "up") {
		t.Errorf("paths: %v; want up, down, up", w.log)
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	w := newWorld(home)
	for i := range 100 {
		w.Reached(w.now, peer, peering.Route{Remote: netip.AddrPortFrom(away.Addr(), uint16(1000+i))})
	}
	w.do(w.Reached(w.now, peer, peering.Route{Remote: away}))
	if w.requests != peering.MaxCandidates {
		t.Errorf("%d probes; want %d", w.requests, peering.MaxCandidates)
	}
	if !slices.ContainsFunc(w.lastRequests, func(e peering.Effect) bool { return e.Route.Remote == home }) {
		t.Error("what the member says of itself was pushed out")
	}
}
