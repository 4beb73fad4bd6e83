package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
)

const (
	// While alone, the gap between tries grows from joinFirst to joinSoon, and
	// after joinHasty tries, which take two minutes, to joinLast: a lossy path
	// swallows one try in three, and an uplink that is paid by the byte is not to
	// be knocked to ruin.
	joinFirst = 250 * time.Millisecond
	joinSoon  = 5 * time.Second
	joinHasty = 28
	joinLast  = 30 * time.Second
	// rejoinEvery is the gap between looks for seeds and members that are
	// missing from a mesh that we are in: partitions heal no other way.
	rejoinEvery = 30 * time.Second
	// rejoinMost bounds the missing members tried at one look.
	rejoinMost = 8
	// joinMost bounds the handshakes begun at one look: an older one that still
	// waits for its answer must not be pushed out (package join keeps 64).
	joinMost = 32

	resolveTimeout = 5 * time.Second
	// selfPause is how long a seed that leads back to this node rests.
	selfPause = 10 * time.Minute
)

// ErrNoAnswer is the cause of a JoinStatus when nothing came back.
var ErrNoAnswer = errors.New("unreachable, or another secret (compare `serialspan secret id`)")

// JoinStatus is how it went with one address of Config.Join.
type JoinStatus struct {
	Address string          // as configured
	Node    identity.NodeID // who answered last; zero: nobody yet
	Err     error           // why the last try failed; nil: it did not, or is under way
}

// joining is the state of the join loop. It is safe for concurrent use.
type joining struct {
	wake chan struct{} // the loop should look again, from the start of its backoff
	meta chan struct{} // our record has changed
	met  chan struct{} // there is somebody to exchange memberships with

	mu      sync.Mutex
	seeds   []seed
	toMerge map[identity.NodeID]struct{} // members to exchange memberships with
	silence map[netip.AddrPort]int       // how often an address did not answer
}

// seed is one address of Config.Join.
type seed struct {
	JoinStatus
	addrs []netip.AddrPort // as last resolved
	// It seemed to lead back to us; not tried before. Only a hint: whoever can
	// reflect our own datagrams can make it seem so.
	notBefore time.Duration
	said      bool // its failure was logged, and has not changed since
}

func (j *joining) init(addresses []string) {
	j.wake = make(chan struct{}, 1)
	j.meta = make(chan struct{}, 1)
	j.met = make(chan struct{}, 1)
	j.silence = make(map[netip.AddrPort]int)
	j.toMerge = make(map[identity.NodeID]struct{})
	for _, a := range addresses {
		j.seeds = append(j.seeds, seed{JoinStatus: JoinStatus{Address: a}})
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// again makes the loop try at once.
func (j *joining) again() { poke(j.wake) }

// metaChanged makes the gossip loop spread our record.
func (j *joining) metaChanged() { poke(j.meta) }

// exchange asks for the memberships to be exchanged with a member.
func (j *joining) exchange(id identity.NodeID) {
	j.mu.Lock()
	j.toMerge[id] = struct{}{}
	j.mu.Unlock()
	poke(j.met)
}

// take returns the members to exchange memberships with.
func (j *joining) take() []identity.NodeID {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := make([]identity.NodeID, 0, len(j.toMerge))
	for id := range j.toMerge {
		ids = append(ids, id)
	}
	clear(j.toMerge)
	slices.SortFunc(ids, identity.NodeID.Compare)
	return ids
}

// silent notes the addresses that did not answer. A seed whose member is alive
// is fine: it may have another address that does, or have joined us.
func (j *joining) silent(addrs []netip.AddrPort, alive map[identity.NodeID]bool) {
	j.mu.Lock()
	for _, addr := range addrs {
		if len(j.silence) >= maxSilent {
			clear(j.silence)
		}
		j.silence[addr]++
	}
	j.mu.Unlock()
	j.note(addrs, func(s *seed) {
		if !alive[s.Node] {
			s.Err = fmt.Errorf("no answer from %s: %w", s.Address, ErrNoAnswer)
		}
	})
}

// reached notes that a member was reached at an address, whoever began.
func (j *joining) reached(id identity.NodeID, addr netip.AddrPort) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.silence, addr)
	for i := range j.seeds {
		if s := &j.seeds[i]; s.Node == id || slices.Contains(s.addrs, addr) {
			s.Node, s.Err, s.said = id, nil, false
		}
	}
}

// note edits the seeds that an address belongs to.
func (j *joining) note(addrs []netip.AddrPort, edit func(*seed)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.seeds {
		if slices.ContainsFunc(j.seeds[i].addrs, func(a netip.AddrPort) bool { return slices.Contains(addrs, a) }) {
			before := fmt.Sprint(j.seeds[i].Err)
			edit(&j.seeds[i])
			if fmt.Sprint(j.seeds[i].Err) != before {
				j.seeds[i].said = false
			}
		}
	}
}

// Joins returns how it goes with the addresses of Config.Join, in their order.
func (m *Mesh) Joins() []JoinStatus {
	m.joining.mu.Lock()
	defer m.joining.mu.Unlock()
	var all []JoinStatus
	for _, s := range m.joining.seeds {
		all = append(all, s.JoinStatus)
	}
	return all
}

// joinLoop tries to be a member, for ever.
func (m *Mesh) joinLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	turn := 0
	for attempt := 0; ctx.Err() == nil; attempt++ {
		alone := m.alone()
		// Seeds have the first places; the names among them take their time.
		seeds := m.seedTargets(ctx)
		if len(seeds) > joinMost { // they take turns
			first := turn * joinMost % len(seeds)
			seeds = append(seeds[first:], seeds[:first]...)
			turn++
		}
		targets := append(seeds, m.kubeSpanTargets()...)
		m.beginJoins(append(targets, m.missing(alone)...))
		m.sayJoinFailures()
		wait := rejoinEvery
		if alone {
			wait = min(joinFirst<<min(attempt, 16), joinSoon)
			if attempt >= joinHasty {
				wait = joinLast
			}
		}
		// Jitter keeps a site that lost its power from knocking in step.
		timer.Reset(wait*3/4 + rand.N(wait/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-m.joining.wake:
			attempt = -1
		}
	}
}

// beginJoins begins a join handshake with each address, as many as one look may.
func (m *Mesh) beginJoins(targets []netip.AddrPort) {
	begun := make(map[netip.AddrPort]bool)
	m.do(func() {
		for _, addr := range targets {
			if !begun[addr] && len(begun) < joinMost {
				begun[addr] = true
				m.beginJoin(addr)
			}
		}
	})
}

// alone reports whether no other member is known to be alive.
func (m *Mesh) alone() (alone bool) {
	alone = true
	m.do(func() {
		for id, alive := range m.alive {
			alone = alone && (id == m.self || !alive)
		}
	})
	return alone
}

// missing returns addresses of members that are not there, in random order. A
// node that is alone tries everybody it ever knew, others a few.
func (m *Mesh) missing(alone bool) []netip.AddrPort {
	all := m.roster.All()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	most := rejoinMost
	if alone {
		most = len(all)
	}
	var targets []netip.AddrPort
	m.do(func() {
		for _, s := range all {
			if s.ID() != m.self && !m.alive[s.ID()] && most > 0 {
				most--
				targets = append(targets, s.Record().Endpoints...)
				targets = append(targets, m.kubeSpanAddrs(s.Record())...)
			}
		}
	})
	return targets
}

// sayJoinFailures logs each failure of a seed once, until it changes.
func (m *Mesh) sayJoinFailures() {
	m.joining.mu.Lock()
	defer m.joining.mu.Unlock()
	for i := range m.joining.seeds {
		if s := &m.joining.seeds[i]; s.Err != nil && !s.said {
			s.said = true
			m.log.Warn("join failed, trying again", "err", s.Err)
		}
	}
}

// handleJoin handles a join message and reports whether it changed anything.
func (m *Mesh) handleJoin(c *control) (changed bool) {
	m.do(func() {
		r := m.join.Handle(m.now(), c.route.Remote, c.buf[:c.n])
		if r.Reply != nil {
			_ = m.cfg.Socket.WriteTo(r.Reply, c.route.Remote, c.route.Local)
		}
		if r.Refused != nil {
			m.joinRefused(r.Refused)
		}
		if r.Done != nil {
			m.joined(r.Done, c.route.Local)
			changed = true
		}
	})
	return changed
}

// joined takes over the result of a completed handshake; mu is held.
func (m *Mesh) joined(p *join.Peer, local netip.Addr) {
	id := p.Record.ID()
	m.merge(p.Record, possessed)
	if p.HeldOfUs != nil {
		m.merge(*p.HeldOfUs, hearsay)
	}
	m.seenAs(p.SeenAs)
	m.reached(id, p.Addr, local)
	m.joining.reached(id, p.Addr)
	m.later(func() {
		m.belonging.problem(weAreRemoved, "")
		if !p.Old {
			m.belonging.problem(weAreBehind, "")
		}
	})
	if p.Initiator {
		m.joining.exchange(id)
	}
}

func (m *Mesh) joinRefused(err error) {
	var refused *join.RefusedError
	if !errors.As(err, &refused) {
		return
	}
	if errors.Is(err, join.ErrTwin) {
		m.merge(refused.Twin, possessed)
	}
	if errors.Is(err, join.ErrSelf) {
		m.joining.note([]netip.AddrPort{refused.Addr}, func(s *seed) { s.notBefore, s.Err = m.now()+selfPause, nil })
		return
	}
	if m.refusedSecret(refused) {
		return
	}
	m.joining.note([]netip.AddrPort{refused.Addr}, func(s *seed) { s.Err, s.said = err, true })
}
