package beacon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// segment is a link between hosts, in memory.
type segment struct {
	mu    sync.Mutex
	hosts []*host
	heard [][]byte // everything that was sent
}

// host is a medium; a host is on one segment.
type host struct {
	segment *segment
	mu      sync.Mutex
	all     []link
	joined  map[int]link
	joins   int
	openErr error
	deliver func(received)
}

func (s *segment) add(addr string) *host {
	h := &host{segment: s, joined: map[int]link{}, all: []link{
		{index: 2, name: "eth0", v6: true, prefixes: []netip.Prefix{netip.MustParsePrefix(addr)}}}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, h)
	return h
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) open(deliver func(received)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deliver = deliver
	return h.openErr
}

func (h *host) links() ([]link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all), nil
}

func (h *host) join(l link) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, is := h.joined[l.index]; is {
		return errors.New("joined twice: " + l.name)
	}
	h.joined[l.index] = l
	h.joins++
	return nil
}

func (h *host) leave(l link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.joined, l.index)
}

func (h *host) send(l link, b []byte) error {
	h.segment.carry(l.prefixes[0].Addr(), bytes.Clone(b))
	return nil
}

func (h *host) close() {}

// carry delivers a datagram to every host, its sender included.
func (s *segment) carry(from netip.Addr, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, b)
	for _, h := range s.hosts {
		h.mu.Lock()
		deliver, joined := h.deliver, len(h.joined) > 0
		h.mu.Unlock()
		if deliver != nil && joined {
			deliver(received{index: 2, from: from, data: b})
		}
	}
}

func (s *segment) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heard)
}

// agent is a Beacon that runs on a host.
type agent struct {
	*Beacon
	mu   sync.Mutex
	told []netip.AddrPort
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, h medium, port uint16, log *slog.Logger, keys ...byte) *agent {
	t.Helper()
	a := &agent{done: make(chan error, 1)}
	b, err := New(Config{
		Keys: func() (all [][32]byte) {
			for _, k := range keys {
				all = append(all, [32]byte{k})
			}
			return all
		},
		Port:   port,
		OnPeer: func(p netip.AddrPort) { a.mu.Lock(); defer a.mu.Unlock(); a.told = append(a.told, p) },
		Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.medium = h
	a.Beacon = b
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	go func() { a.done <- b.Run(ctx) }()
	return a
}

func (a *agent) end(t *testing.T) {
	t.Helper()
	a.stop()
	if err := <-a.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// peers returns whom OnPeer was told of, each once, and forgets them.
func (a *agent) peers() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, p := range a.told {
		all = append(all, p.String())
	}
	a.told = nil
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

func TestAgentsFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		a := start(t, lan.add("192.0.2.1/24"), 51821, nil, 1)
		b := start(t, lan.add("192.0.2.2/24"), 51821, nil, 1)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := a.peers() + ", " + b.peers(); got != "192.0.2.2:51821, 192.0.2.1:51821" && got != "192.0.2.2:51821, " && got != ", 192.0.2.1:51821" {
			t.Errorf("after 1 ms: %q", got)
		}
		time.Sleep(2 * time.Second)
		if lan.count() > 8 {
			t.Errorf("%d beacons of two agents in 2 s", lan.count())
		}
		time.Sleep(time.Minute)
		a.peers()
		b.peers()
		// A third comes later, on another port: it is known to all at once, and
		// they to it as soon as the second since their last beacon is over.
		c := start(t, lan.add("192.0.2.3/24"), 7000, nil, 1)
		time.Sleep(answerGap + answerMin + answerSpread)
		if got := a.peers(); !strings.Contains(got, "192.0.2.3:7000") {
			t.Errorf("first was told of %q", got)
		}
		if got := c.peers(); got != "192.0.2.1:51821 192.0.2.2:51821" {
			t.Errorf("third was told of %q", got)
		}
		// At rest: one beacon each in 30 s.
		time.Sleep(time.Minute)
		before := lan.count()
		time.Sleep(time.Hour)
		if n := lan.count() - before; n < 330 || n > 390 {
			t.Errorf("%d beacons of three agents in an hour, want about 360", n)
		}
		s := a.Stats()
		if s.Sent == 0 || s.Heard == 0 || s.Told == 0 || s.Foreign != 0 || s.Dropped != 0 || s.Err != nil || !slices.Equal(s.Links, []string{"eth0"}) {
			t.Errorf("%+v", s)
		}
		for _, a := range []*agent{a, b, c} {
			a.end(t)
		}
	})
}

func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		a := start(t, lan.add("192.0.2.1/24"), 51821, nil, 1)
		b := start(t, lan.add("192.0.2.2/24"), 51821, nil, 2)
		time.Sleep(time.Minute)
		if got := a.peers() + b.peers(); got != "" {
			t.Errorf("agents with other secrets told of %q", got)
		}
		if s := a.Stats(); s.Foreign == 0 || s.LastFrom.String() != "192.0.2.2" || s.Heard != 0 {
			t.Errorf("%+v", s)
		}
		b.end(t)
		// What a recorded beacon from an address off the link suggests: nothing.
		datagram, err := Seal([32]byte{1}, Hello{Port: 51821, Start: Start{9}})
		if err != nil {
			t.Fatal(err)
		}
		for from, want := range map[string]string{
			"198.51.100.9": "", "2001:db8::1": "", "::ffff:192.0.2.9": "", // the kernel's medium unmaps
			"192.0.2.9": "192.0.2.9:51821", "fe80::9": "[fe80::9%eth0]:51821",
		} {
			lan.carry(netip.MustParseAddr(from), datagram)
			synctest.Wait()
			if got := a.peers(); got != want {
				t.Errorf("from %s: told of %q, want %q", from, got, want)
			}
		}
		a.end(t)
	})
}

// TestRotation: who has the older secret still finds those who know both, and
// they it.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		older := start(t, lan.add("192.0.2.1/24"), 51821, nil, 1)
		newer := start(t, lan.add("192.0.2.2/24"), 51821, nil, 2, 1)
		time.Sleep(time.Minute)
		if got := newer.peers(); got != "192.0.2.1:51821" {
			t.Errorf("told of %q", got)
		}
		if got := older.peers(); got != "" {
			t.Errorf("told of %q by a beacon it cannot open", got)
		}
		older.end(t)
		newer.end(t)
	})
}

func TestLinksComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		eth0 := lan.add("192.0.2.1/24")
		wired := eth0.all
		eth0.all = nil
		a := start(t, eth0, 51821, nil, 1)
		b := start(t, lan.add("192.0.2.2/24"), 51821, nil, 1)
		time.Sleep(time.Minute)
		if got := a.peers() + b.peers(); got != "" {
			t.Fatalf("without a link: told of %q", got)
		}
		eth0.set(func() { eth0.all = wired })
		time.Sleep(pollEvery + time.Second)
		if got := a.peers() + " " + b.peers(); got != "192.0.2.2:51821 192.0.2.1:51821" {
			t.Errorf("after the cable was plugged: told of %q", got)
		}
		// Another address: a change of the link, and the old one is left.
		moved := []link{{index: 2, name: "eth0", v6: true, prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.77/24")}}}
		eth0.set(func() { eth0.all = moved })
		time.Sleep(pollEvery + time.Second)
		if got := b.peers(); !strings.Contains(got, "192.0.2.77:51821") {
			t.Errorf("after a change of address: told of %q", got)
		}
		var before, after int
		eth0.set(func() { before = eth0.joins })
		time.Sleep(10 * time.Minute)
		eth0.set(func() { after = eth0.joins })
		if n := after - before; n != 5 {
			t.Errorf("joined %d times in 10 minutes, want every 2", n)
		}
		eth0.set(func() { eth0.all = nil })
		time.Sleep(pollEvery)
		synctest.Wait()
		if s := a.Stats(); len(s.Links) != 0 || len(eth0.joined) != 0 || s.Err != nil {
			t.Errorf("%+v, joined %v", s, eth0.joined)
		}
		a.end(t)
		b.end(t)
	})
}

// TestNoSockets: a host that refuses does not end Run, and says so once.
func TestNoSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		var text bytes.Buffer
		h := lan.add("192.0.2.1/24")
		h.openErr = errors.New("port taken")
		a := start(t, h, 51821, slog.New(slog.NewTextHandler(&text, nil)), 1)
		time.Sleep(time.Minute)
		if s := a.Stats(); s.Err == nil {
			t.Error("no error in Stats")
		}
		h.set(func() { h.openErr = nil })
		time.Sleep(pollEvery)
		synctest.Wait()
		if s := a.Stats(); s.Err != nil {
			t.Errorf("still %v", s.Err)
		}
		a.end(t)
		if n := strings.Count(text.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings: %s", n, text.String())
		}
	})
}

func TestTooManyLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan segment
		h := lan.add("192.0.2.1/24")
		for i := range 40 {
			l := h.all[0]
			l.index += 1 + i
			h.all = append(h.all, l)
		}
		a := start(t, h, 51821, nil, 1)
		synctest.Wait()
		if n := len(a.Stats().Links); n != maxLinks {
			t.Errorf("%d links, want %d", n, maxLinks)
		}
		a.end(t)
	})
}

func TestNewWantsItsFields(t *testing.T) {
	keys, onPeer := func() [][32]byte { return nil }, func(netip.AddrPort) {}
	for name, cfg := range map[string]Config{
		"nothing": {}, "no keys": {Port: 1, OnPeer: onPeer}, "no port": {Keys: keys, OnPeer: onPeer}, "no OnPeer": {Keys: keys, Port: 1},
	} {
		if _, err := New(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}
