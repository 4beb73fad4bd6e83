package beacon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// Port is the UDP port of all beacons, in both directions.
	Port = 51822

	// pollEvery is the time between two looks at the host's links.
	pollEvery = 10 * time.Second

	// rejoinEvery is the time after which groups are left and joined again:
	// that makes a switch which listens to memberships, on a link where no
	// router asks for them, go on forwarding (RFC 4541 section 2.1.1).
	rejoinEvery = 2 * time.Minute

	// maxLinks bounds the links in use; Linux lets a socket be in 20 IPv4
	// groups (net.ipv4.igmp_max_memberships).
	maxLinks = 16

	// backlog bounds the datagrams that wait for Run; more are dropped.
	backlog = 64
)

// Where beacons go.
var (
	group6 = netip.MustParseAddr("ff12::d370:616e")
	group4 = netip.MustParseAddr("239.255.83.83")
)

// ErrConfig is wrapped by New's error when a required field is missing.
var ErrConfig = errors.New("incomplete configuration")

// Config sets up a Beacon. Keys, Port and OnPeer are required.
type Config struct {
	// Keys returns identity.Secret.BeaconKey of the secret in force first and
	// of others that are known, which open beacons but seal none. Called on
	// Run's goroutine for each beacon.
	Keys func() [][32]byte

	// Port is the UDP port of the mesh's socket, as others on the link see it.
	Port uint16

	// OnPeer is told where a member may be found: an address on a link of
	// ours, with a zone where it is link-local. It says nothing about who is
	// there, and may be repeated every few seconds. Called on Run's goroutine;
	// it must not block.
	OnPeer func(netip.AddrPort)

	// Skip leaves out a link by its name; default none. Links that are down,
	// loopback, point-to-point, without multicast or without any address but a
	// link-local one are left out anyway.
	Skip func(name string) bool

	// Logger gets a warning when beacons cannot be sent and debug events else;
	// default discards.
	Logger *slog.Logger
}

// Stats counts since Run began.
type Stats struct {
	Links    []string   // names of those in use, sorted
	Sent     uint64     // beacons, one for each link
	Heard    uint64     // beacons of other agents with our secret
	Told     uint64     // calls of OnPeer
	Foreign  uint64     // datagrams that did not open: another secret
	LastFrom netip.Addr // where the last of those came from
	Dropped  uint64     // datagrams that came faster than they were read
	Err      error      // why beacons cannot be sent or heard now; nil: they can
}

// Beacon sends beacons and hears others'. It is safe for concurrent use; Run
// may be called once.
type Beacon struct {
	cfg    Config
	medium medium
	own    Start

	// Run's:
	start    time.Time
	machine  *Machine
	links    []link
	polled   bool
	rejoined time.Duration

	mu    sync.Mutex
	stats Stats
}

// link is an interface that beacons use.
type link struct {
	index    int
	name     string
	v6       bool           // it has a link-local address
	prefixes []netip.Prefix // its IPv4 addresses, with their lengths
}

func (l link) equal(o link) bool {
	return l.index == o.index && l.name == o.name && l.v6 == o.v6 && slices.Equal(l.prefixes, o.prefixes)
}

// onLink reports whether an address is one that this link's hosts can have.
func (l link) onLink(a netip.Addr) bool {
	if a.Is6() {
		return a.IsLinkLocalUnicast()
	}
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// received is a datagram that came to one of the groups.
type received struct {
	index int // of the link
	from  netip.Addr
	data  []byte
}

// medium is where beacons travel: the kernel's sockets, or a test's.
type medium interface {
	// open begins to deliver what comes, from goroutines that close joins.
	// Called again after an error, and at each poll.
	open(deliver func(received)) error
	links() ([]link, error) // usable ones, sorted by index
	join(link) error
	leave(link)
	send(link, []byte) error
	close()
}

// New returns a Beacon that does nothing before Run.
func New(cfg Config) (*Beacon, error) {
	if cfg.Keys == nil || cfg.Port == 0 || cfg.OnPeer == nil {
		return nil, fmt.Errorf("new beacon: %w: Keys, Port and OnPeer are required", ErrConfig)
	}
	if cfg.Skip == nil {
		cfg.Skip = func(string) bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Beacon{cfg: cfg, medium: &sockets{}}
	if _, err := rand.Read(b.own[:]); err != nil {
		return nil, fmt.Errorf("new beacon: %w", err)
	}
	return b, nil
}

// Stats returns the counts.
func (b *Beacon) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Links = slices.Clone(s.Links)
	return s
}

func (b *Beacon) count(edit func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	edit(&b.stats)
}

func (b *Beacon) now() time.Duration { return time.Since(b.start) }

// Run sends and hears until ctx ends and then returns nil. It opens its sockets
// on the calling goroutine's thread, so in that thread's network namespace.
// What the kernel refuses is in Stats.Err and tried again; Run does not fail.
func (b *Beacon) Run(ctx context.Context) error {
	defer b.medium.close()
	b.start = time.Now()
	b.machine = NewMachine(b.own, func(d time.Duration) time.Duration { return mathrand.N(d) })
	heard := make(chan received, backlog)
	deliver := func(r received) {
		select {
		case heard <- r:
		default:
			b.count(func(s *Stats) { s.Dropped++ })
		}
	}
	b.poll(deliver)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	due := time.NewTimer(b.machine.Next() - b.now())
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			b.poll(deliver)
		case r := <-heard:
			b.hear(r)
		case <-due.C:
			b.send()
		}
		due.Reset(b.machine.Next() - b.now())
	}
}

// poll follows the host's links.
func (b *Beacon) poll(deliver func(received)) {
	err := b.medium.open(deliver)
	links, linksErr := b.medium.links()
	if linksErr != nil {
		b.fail(errors.Join(err, linksErr))
		return // those in use stay so
	}
	links = slices.DeleteFunc(links, func(l link) bool { return b.cfg.Skip(l.name) })
	if len(links) > maxLinks {
		b.cfg.Logger.Debug("more links than beacons use", "limit", maxLinks, "unused", len(links)-maxLinks)
		links = links[:maxLinks]
	}
	again := b.now()-b.rejoined >= rejoinEvery
	if again {
		b.rejoined = b.now()
	}
	changed := false
	for _, old := range b.links {
		if again || !slices.ContainsFunc(links, old.equal) {
			b.medium.leave(old)
		}
	}
	var names []string
	for _, l := range links {
		isNew := !slices.ContainsFunc(b.links, l.equal)
		if again || isNew {
			err = errors.Join(err, b.medium.join(l))
		}
		changed = changed || isNew
		names = append(names, l.name)
	}
	b.links = links
	slices.Sort(names)
	b.count(func(s *Stats) { s.Links = names })
	b.fail(err)
	if changed && b.polled { // at start the machine needs no telling
		b.cfg.Logger.Debug("links for beacons", "links", names)
		b.machine.LinksChanged(b.now())
	}
	b.polled = true
}

// fail notes why there are no beacons, and says so once.
func (b *Beacon) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && fmt.Sprint(err) != fmt.Sprint(b.stats.Err) {
		b.cfg.Logger.Warn("members on this link may not be found: no beacons", "err", err)
	}
	b.stats.Err = err
}

// send sends a beacon by every link.
func (b *Beacon) send() {
	defer func() { b.machine.Sent(b.now()) }()
	keys := b.cfg.Keys()
	if len(keys) == 0 {
		return
	}
	datagram, err := Seal(keys[0], Hello{Port: b.cfg.Port, Start: b.own})
	if err != nil {
		b.fail(err)
		return
	}
	for _, l := range b.links {
		if err := b.medium.send(l, datagram); err != nil {
			b.cfg.Logger.Debug("beacon not sent", "link", l.name, "err", err)
			continue
		}
		b.count(func(s *Stats) { s.Sent++ })
	}
}

// hear takes a datagram.
func (b *Beacon) hear(r received) {
	i := slices.IndexFunc(b.links, func(l link) bool { return l.index == r.index })
	if i < 0 || !b.links[i].onLink(r.from) {
		return
	}
	hello, err := b.open(r.data)
	if err != nil {
		b.count(func(s *Stats) { s.Foreign, s.LastFrom = s.Foreign+1, r.from })
		return
	}
	if hello.Start == b.own {
		return
	}
	from := r.from
	if from.Is6() {
		from = from.WithZone(b.links[i].name)
	}
	where, tell := b.machine.Heard(b.now(), from, hello)
	b.count(func(s *Stats) {
		s.Heard++
		if tell {
			s.Told++
		}
	})
	if tell {
		b.cfg.Logger.Debug("beacon heard", "endpoint", where, "link", b.links[i].name)
		b.cfg.OnPeer(where)
	}
}

// open tries the keys in turn.
func (b *Beacon) open(datagram []byte) (Hello, error) {
	err := ErrForeign
	for _, key := range b.cfg.Keys() {
		var h Hello
		if h, err = Open(key, datagram); !errors.Is(err, ErrForeign) {
			return h, err
		}
	}
	return Hello{}, err
}
