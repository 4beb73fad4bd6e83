package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/probe"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

// ErrNoPath is returned by TryPathSize for a member without a path.
var ErrNoPath = errors.New("no path")

// PathSize is how large a datagram gets through on a path. Sizes are bytes of
// UDP payload; on a path through a relay those of the message that is passed on.
type PathSize struct {
	Path, Endpoint string // as in Member
	// Data is the size of the largest datagrams of our own, Full that of the
	// largest that go by such a path: what is passed on for others by a relay, us
	// or the member, is larger.
	Data, Full int
	// There is the size of the largest that got to the member: Full if all do, 0
	// if not even a small one was answered.
	There int
	// Back is the size of the largest that came back from it. 0: it is not known,
	// because There is not Full, or because the member does not answer so.
	Back int
	// Headers is what IP and UDP add, bytes; 0 through a relay.
	Headers int
	// MTU is what our kernel knows of the path, as bytes of an IP packet: what
	// is larger leaves in fragments. 0: not known.
	MTU int
	// Seen is the address at which the member saw us when it answered; zero: by
	// another way than straight. Translated: it is none of ours, a router on the
	// way has put it there.
	Seen       netip.AddrPort
	Translated bool
}

// Of a trial.
const (
	// trialRounds is how often a size is tried until it counts as too large, the
	// gap between two being trialGap or two round trips. Losing 30 % of the
	// datagrams each way, a path passes for too narrow in 3 of 100 trials.
	trialRounds = 5
	trialGap    = 250 * time.Millisecond
	// stepRounds and stepGap are the same in the search for the largest size.
	stepRounds = 3
	stepGap    = 150 * time.Millisecond
	// maxTrialGap bounds both gaps where round trips are long.
	maxTrialGap = time.Second
)

// sizeAnswer is the answer to a probe of a trial.
type sizeAnswer struct {
	token uint64
	size  int
	seen  netip.AddrPort // where the member saw us
}

// sizeAsk is one thing to try: a request of size bytes. Its answer is small, or,
// with whole, as large.
type sizeAsk struct {
	size  int
	whole bool
}

// trial tries datagrams of several sizes on one path.
type trial struct {
	m       *Mesh
	id      identity.NodeID
	route   peering.Route
	answers chan sizeAnswer
	asked   map[uint64]sizeAsk
	got     map[sizeAsk]int // size of the largest answer
	seen    netip.AddrPort
}

// TryPathSize finds out how large a datagram gets through on the path to a
// member by sealed probes, padded as far as the largest datagrams that we send:
// it takes a round trip where those do, and some seconds where they do not. What
// is known when ctx ends is returned. The error unwraps to ErrNoPath.
func (m *Mesh) TryPathSize(ctx context.Context, id identity.NodeID) (PathSize, error) {
	t := &trial{m: m, id: id, answers: make(chan sizeAnswer, 16), asked: make(map[uint64]sizeAsk), got: make(map[sizeAsk]int)}
	var roundTrip time.Duration
	var known Member
	relays := m.relay.offered.Load()
	m.do(func() {
		s := m.peering.Status(id)
		t.route, roundTrip = s.Route, s.RoundTrip
		m.describePath(&known, s)
		if signed, ok := m.roster.Get(id); ok {
			relays = relays || signed.Record().Relay
		}
	})
	if t.route.IsZero() {
		return PathSize{}, fmt.Errorf("try datagrams to node %s: %w", id, ErrNoPath)
	}
	defer t.end()
	size := PathSize{Path: known.Path, Endpoint: known.Endpoint}
	size.Data, size.Full = fullSizes(t.route, relays)
	t.measure(ctx, roundTrip, &size)
	m.pathMTU(t.route, &size)
	if !t.route.IsRelay() && !t.route.KubeSpan {
		size.Seen, size.Translated = t.seen, t.seen.IsValid() && !m.isOwn(t.seen)
	}
	return size, nil
}

// fullSizes returns Data and Full of a PathSize.
func fullSizes(r peering.Route, relays bool) (data, full int) {
	data = tunnel.WireSize(quicnet.PacketSize)
	passedOn := identity.NodeIDLen + data
	switch {
	case r.KubeSpan:
		data, full = bareProbe, tunnel.BareSize(passedOn)
	case r.IsRelay():
		return data, data
	default:
		full = tunnel.WireSize(passedOn)
	}
	if !relays {
		full = data
	}
	return data, full
}

// measure fills in There and Back.
func (t *trial) measure(ctx context.Context, roundTrip time.Duration, size *PathSize) {
	sizes := slices.Compact([]int{probe.Len, size.Data, size.Full})
	var asks []sizeAsk
	for _, s := range sizes {
		asks = append(asks, sizeAsk{s, false}, sizeAsk{s, true})
	}
	t.try(ctx, trialRounds, min(max(trialGap, 2*roundTrip), maxTrialGap), asks...)
	size.There = t.largest(ctx, roundTrip, sizes, func(s int) bool { return t.got[sizeAsk{s, false}] > 0 || t.got[sizeAsk{s, true}] > 0 }, false)
	switch whole := t.got[sizeAsk{size.Full, true}]; {
	case size.There < size.Full, 0 < whole && whole < size.Full: // the member took no notice of what was asked
	default:
		size.Back = t.largest(ctx, roundTrip, sizes, func(s int) bool { return t.got[sizeAsk{s, true}] >= s }, true)
	}
}

// largest returns the largest size that gets through, where it is known of some
// sizes, ascending, whether they do.
func (t *trial) largest(ctx context.Context, roundTrip time.Duration, sizes []int, through func(int) bool, whole bool) int {
	for i := len(sizes) - 1; i >= 0; i-- {
		switch {
		case !through(sizes[i]):
		case i == len(sizes)-1:
			return sizes[i]
		default:
			return t.search(ctx, min(max(stepGap, 2*roundTrip), maxTrialGap), sizes[i], sizes[i+1], whole)
		}
	}
	return 0
}

// search returns the largest size that is answered, of one that is and one that
// is not.
func (t *trial) search(ctx context.Context, gap time.Duration, answered, unanswered int, whole bool) int {
	for unanswered-answered > 1 && ctx.Err() == nil {
		ask := sizeAsk{(answered + unanswered) / 2, whole}
		t.try(ctx, stepRounds, gap, ask)
		if t.got[ask] > 0 {
			answered = ask.size
		} else if ctx.Err() == nil {
			unanswered = ask.size
		}
	}
	return answered
}

// try sends what is not answered yet, rounds times, and returns when all is or
// the time of the last round is over.
func (t *trial) try(ctx context.Context, rounds int, gap time.Duration, asks ...sizeAsk) {
	missing := func(ask sizeAsk) bool { return t.got[ask] == 0 }
	for range rounds {
		if !slices.ContainsFunc(asks, missing) {
			return
		}
		for _, ask := range asks {
			if missing(ask) {
				t.send(ask)
			}
		}
		timer := time.NewTimer(gap)
		for waiting := true; waiting && slices.ContainsFunc(asks, missing); {
			select {
			case a := <-t.answers: // it may be a late one, to another try
				ask := t.asked[a.token]
				t.got[ask], t.seen = max(t.got[ask], a.size), a.seen
			case <-timer.C:
				waiting = false
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
		timer.Stop()
	}
}

func (t *trial) send(ask sizeAsk) {
	token := token()
	t.asked[token] = ask
	t.m.do(func() {
		t.m.trials[token] = t.answers
		t.m.sendProbe(t.id, t.route, probe.Probe{Kind: probe.Request, Token: token, Whole: ask.whole}, ask.size)
	})
}

func (t *trial) end() {
	t.m.do(func() {
		for token := range t.asked {
			delete(t.m.trials, token)
		}
	})
}

// triesSize takes a probe that only tries a size, ours or another's, and reports
// whether it was one: paths do not depend on it. mu is held.
func (m *Mesh) triesSize(id identity.NodeID, c *control, p probe.Probe) bool {
	if p.Kind == probe.Request {
		if p.Whole {
			m.sendProbe(id, c.route, m.answerTo(p.Token, c.route), min(c.size, tunnel.MTU))
		}
		return p.Whole
	}
	answers, ours := m.trials[p.Token]
	if !ours {
		return false
	}
	delete(m.trials, p.Token)
	select {
	case answers <- sizeAnswer{p.Token, c.size, p.Seen}:
	default: // the trial has other answers to look at
	}
	return true
}

// isOwn reports whether an address is that of our socket on one of our
// interfaces, those too at which nobody reaches us from outside.
func (m *Mesh) isOwn(a netip.AddrPort) bool {
	listen, addr := m.cfg.Socket.LocalAddr(), a.Addr().WithZone("")
	if a.Port() != listen.Port() {
		return false
	}
	if own, err := m.cfg.Addresses(); err != nil || addr == listen.Addr() || slices.Contains(own, addr) {
		return true
	}
	host, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(host, func(h net.Addr) bool {
		n, ok := h.(*net.IPNet)
		return ok && n.IP.Equal(addr.AsSlice())
	})
}

// pathMTU adds what our kernel knows of a path.
func (m *Mesh) pathMTU(r peering.Route, size *PathSize) {
	if r.IsRelay() {
		return
	}
	size.Headers = 20 + 8
	if r.Remote.Addr().Is6() {
		size.Headers = 40 + 8
	}
	socket, ok := m.cfg.Socket.(interface {
		PathMTU(to netip.AddrPort) (int, error)
	})
	if !ok {
		return
	}
	mtu, err := socket.PathMTU(r.Remote)
	if err != nil {
		m.log.Debug("path MTU unknown", "endpoint", r.Remote, "err", err)
		return
	}
	size.MTU = mtu
}
