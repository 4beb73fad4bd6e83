package registrysync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// maxDialed is how many exchanges run that this node opened.
	maxDialed = 4
	// maxQueued bounds the exchanges that wait for one of those to end.
	maxQueued = 32
	// fanOut is how many members are asked at once: at the start, of new ones,
	// and owners after hints.
	fanOut = 3
	// greeters is how many members compare with a new one of their own
	// accord; it compares as well, and what it publishes is broadcast.
	greeters = 8
	// greetDelay is when they do, at the latest, and half of it at the earliest:
	// the newcomer then has what it has asked for, and no two send it all.
	greetDelay = 600 * time.Millisecond
	// patience is how long the first comparison of all runs alone: it brings
	// everything, and others at the same time would bring it again.
	patience = time.Second
	// hintDelay spreads the members that ask one owner for its large list.
	hintDelay = 200 * time.Millisecond
	// differGap is the least time between comparisons because of OnDiffer.
	differGap = 2 * time.Second
	// firstRetry is the wait after a failed comparison; it doubles up to the
	// interval.
	firstRetry = time.Second
	// warnAfter failures in a row a person is told.
	warnAfter = 3
)

// loop is the state of Run's own goroutine; only that touches it.
type loop struct {
	*Engine
	known    map[identity.NodeID]bool // peers at the last look
	running  map[identity.NodeID]bool // exchanges that this node opened
	queue    []identity.NodeID
	done     chan result
	failures int // in a row

	compare *time.Timer // the next comparison with a random member
	hintDue *time.Timer // the next look at hints
	hinting bool        // hintDue runs
	expiry  *time.Timer // the next time a device's hold ends

	greet    []identity.NodeID // new members to compare with
	greetDue *time.Timer       // runs if greet has somebody

	first *time.Timer // runs out when the first comparison has taken its time
	eager bool        // comparisons may run at once

	differed time.Time // when a comparison was last wanted because of OnDiffer
}

type result struct {
	peer identity.NodeID
	err  error
}

func newLoop(e *Engine) *loop {
	return &loop{
		Engine:  e,
		known:   make(map[identity.NodeID]bool),
		running: make(map[identity.NodeID]bool),
		done:    make(chan result),
	}
}

func (l *loop) run(ctx context.Context) {
	var exchanges sync.WaitGroup
	defer exchanges.Wait()
	changes, stop := l.cfg.Registry.Watch()
	defer stop()
	l.compare = time.NewTimer(jitter(l.cfg.Interval))
	defer l.compare.Stop()
	l.hintDue, l.expiry, l.greetDue, l.first = stoppedTimer(), stoppedTimer(), stoppedTimer(), stoppedTimer()
	defer l.greetDue.Stop()
	defer l.first.Stop()
	defer l.hintDue.Stop()
	defer l.expiry.Stop()

	l.lookAtMembers()
	l.lookAtRegistry()
	for {
		l.startQueued(ctx, &exchanges)
		select {
		case <-ctx.Done():
			return
		case <-l.members:
			l.lookAtMembers()
		case <-l.hints:
			if !l.hinting { // not put off by more hints
				l.hinting = true
				l.hintDue.Reset(rand.N(hintDelay))
			}
		case <-l.differs:
			l.compareDiffering()
		case <-l.hintDue.C:
			l.hinting = false
			l.askHinted()
		case <-l.greetDue.C:
			l.want(l.greet...)
			l.greet = nil
		case <-l.first.C:
			l.eager = true
		case <-l.compare.C:
			l.want(l.random(1)...)
			l.compare.Reset(jitter(l.cfg.Interval))
		case <-changes:
			l.lookAtRegistry()
		case <-l.expiry.C:
			l.lookAtRegistry()
		case r := <-l.done:
			l.finished(r)
		}
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// jitter returns between 0.75 and 1.25 of d.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// random returns up to n random peers.
func (l *loop) random(n int) []identity.NodeID {
	peers := slices.Clone(l.cfg.Peers())
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers[:min(n, len(peers))]
}

// lookAtMembers wants comparisons with new members: a node that knew nobody
// asks a few; the others leave a newcomer to as many as greeters of them.
func (l *loop) lookAtMembers() {
	peers := l.random(len(l.cfg.Peers()))
	var chosen []identity.NodeID
	for _, p := range peers {
		if !l.known[p] && len(chosen) < fanOut && (len(l.known) == 0 || rand.IntN(len(peers)) < greeters) {
			chosen = append(chosen, p)
		}
	}
	newcomer := len(l.known) == 0
	clear(l.known)
	for _, p := range peers {
		l.known[p] = true
	}
	switch {
	case newcomer:
		l.want(chosen...)
	case len(chosen) > 0 && len(l.greet) < maxQueued:
		if len(l.greet) == 0 {
			l.greetDue.Reset(greetDelay/2 + rand.N(greetDelay/2))
		}
		l.greet = append(l.greet, chosen...)
	}
}

// compareDiffering compares with a member that holds something else, not too
// often: where much has changed all members differ, for a moment.
func (l *loop) compareDiffering() {
	if now := time.Now(); now.Sub(l.differed) >= differGap {
		l.differed = now
		l.mu.Lock()
		peer := l.differing
		l.mu.Unlock()
		l.want(peer)
	}
}

// askHinted asks the owners of lists that were too large to broadcast, or
// somebody else if such an owner is not alive.
func (l *loop) askHinted() {
	peers := l.cfg.Peers()
	owners := l.takeHinted()
	for _, owner := range owners[:min(fanOut, len(owners))] {
		if slices.Contains(peers, owner) {
			l.want(owner)
		} else {
			l.want(l.random(1)...)
		}
	}
}

// lookAtRegistry lets this node's own devices follow what changed, and sets
// the timer for the next hold that ends.
func (l *loop) lookAtRegistry() {
	if err := l.announce(l.cfg.Registry.Reconcile); err != nil {
		l.log.Warn("devices not published", "err", err)
	}
	now := l.cfg.Now()
	if next, ok := l.cfg.Registry.Advance(now); ok {
		l.expiry.Reset(next - now + time.Millisecond)
	} else {
		l.expiry.Stop()
	}
}

// want queues comparisons; one that runs already is run again after it.
func (l *loop) want(peers ...identity.NodeID) {
	for _, p := range peers {
		if p != l.cfg.Self && !slices.Contains(l.queue, p) && len(l.queue) < maxQueued {
			l.queue = append(l.queue, p)
		}
	}
}

func (l *loop) startQueued(ctx context.Context, exchanges *sync.WaitGroup) {
	waiting := l.queue[:0]
	most := maxDialed
	if !l.eager {
		most = 1
	}
	for _, peer := range l.queue {
		if len(l.running) >= most || l.running[peer] {
			waiting = append(waiting, peer)
			continue
		}
		if !l.eager && len(l.running) == 0 {
			l.first.Reset(patience)
		}
		l.running[peer] = true
		exchanges.Go(func() {
			err := l.compareWith(ctx, peer)
			select {
			case l.done <- result{peer, err}:
			case <-ctx.Done():
			}
		})
	}
	l.queue = waiting
}

// compareWith opens a stream to a member and exchanges what differs.
func (e *Engine) compareWith(ctx context.Context, peer identity.NodeID) error {
	dialing, cancel := context.WithTimeout(ctx, e.cfg.IdleTimeout)
	defer cancel()
	conn, err := e.cfg.Dial(dialing, peer)
	if err != nil {
		return fmt.Errorf("dial %s: %w", peer.Short(), err)
	}
	return e.exchange(ctx, conn, peer, (*exchange).initiate)
}

// finished notes how a comparison went; after a failure the next one, with
// any member, comes sooner.
func (l *loop) finished(r result) {
	delete(l.running, r.peer)
	l.eager = true
	if r.err == nil {
		if l.failures >= warnAfter {
			l.log.Info("device registry is in step again", "node", r.peer)
		}
		if l.failures > 0 {
			l.compare.Reset(jitter(l.cfg.Interval))
		}
		l.failures = 0
		return
	}
	l.failures++
	l.log.Debug("registry comparison failed", "node", r.peer, "err", r.err)
	if l.failures == warnAfter {
		l.log.Warn("device registry may be out of date: comparing it with other members fails; retrying", "node", r.peer, "err", r.err)
	}
	retry := min(l.cfg.Interval, firstRetry<<min(l.failures-1, 10))
	l.compare.Reset(jitter(retry))
}
