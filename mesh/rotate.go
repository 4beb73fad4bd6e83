package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
	"github.com/serialspan/serialspan/mesh/keyring"
)

const (
	// handOutTime is how long a rotation tries to reach those members that are
	// alive, before it goes on without them.
	handOutTime = 20 * time.Second
	// switchTime is how long it tries to tell them that the new secret is in
	// use; who does not hear it learns it by a hint.
	switchTime = 10 * time.Second
	// handOutPause is between two tries.
	handOutPause = time.Second
)

// ErrNotAdmin means that this node is not among Config.Admins.
var ErrNotAdmin = errors.New("this node is not in cluster.admins")

// Phase is how far a rotation is.
type Phase int

const (
	// PhaseNone: this node has not rotated since it started.
	PhaseNone Phase = iota
	// PhaseHandOut: the new secret is given to the members.
	PhaseHandOut
	// PhaseSwitch: they have it, as far as they can be reached, and it is in
	// use.
	PhaseSwitch
	// PhaseDone: there is nothing left to do.
	PhaseDone
	// PhaseOvertaken: another member's rotation counts.
	PhaseOvertaken
)

// String returns "none", "hand-out", "switch", "done" or "overtaken".
func (p Phase) String() string {
	names := [...]string{"none", "hand-out", "switch", "done", "overtaken"}
	if p < 0 || int(p) >= len(names) {
		return "unknown"
	}
	return names[p]
}

// Rotation is the last rotation that this node began, as it stands now.
type Rotation struct {
	Number  uint32 // key number of the new secret
	Phase   Phase
	Has     []identity.NodeID          // who has it, without this node
	Missing map[identity.NodeID]string // who does not, and why
}

// RotateOptions is how to rotate.
type RotateOptions struct {
	// DropOld: older secrets are not accepted any more once the new one is in
	// use. Members that are away now must then be given it by hand.
	DropOld bool
}

// Rotate makes a new cluster secret and begins to hand it out; Run carries that
// on by itself, over a restart too, and Keys tells how far it is. It fails with
// ErrNotAdmin where there are administrators and this node is none.
func (m *Mesh) Rotate(options RotateOptions) (number uint32, err error) {
	if !m.mayRotate(m.self) {
		return 0, fmt.Errorf("rotate cluster secret: %w; the others would refuse it: do it on one that is", ErrNotAdmin)
	}
	id, _ := m.cfg.Store.Identity()
	m.changeKeys(func(ring *keyring.Ring) bool {
		// Newer than all that is known: what another offers may not come about.
		number = ring.Keys()[0].Secret.KeyNumber + 1
		if number == 0 {
			err = errors.New("the key numbers are used up")
			return false
		}
		var secret identity.Secret
		if secret, err = ring.Current().Secret.Renewed(number); err != nil {
			return false
		}
		oldest := uint32(0)
		if options.DropOld {
			oldest = number
		}
		var statement keyring.Statement
		if statement, err = keyring.SignStatement(id, secret, oldest); err != nil {
			return false
		}
		var added bool
		added, err = ring.Add(keyring.Key{Secret: secret, Statement: statement})
		return added
	})
	if err != nil {
		return 0, fmt.Errorf("rotate cluster secret: %w", err)
	}
	m.log.Info("cluster secret rotation begins", "key", number)
	m.setRotation(Rotation{Number: number, Phase: PhaseHandOut})
	return number, nil
}

func (m *Mesh) setRotation(r Rotation) {
	b := &m.belonging
	b.mu.Lock()
	b.rotation = r
	b.mu.Unlock()
	m.watch.changed()
}

// rotateLoop carries on what Rotate began, here or before a restart.
func (m *Mesh) rotateLoop(ctx context.Context) {
	for {
		if next, ok := m.ring().Next(); ok && next.Statement.Issuer() == m.self {
			m.handOut(ctx, next)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.belonging.rotate:
		}
	}
}

// handOut gives an offered secret to all members that can be reached, then puts
// it to use, then tells them so.
func (m *Mesh) handOut(ctx context.Context, next keyring.Key) {
	r := Rotation{Number: next.Secret.KeyNumber, Phase: PhaseHandOut}
	overtaken := func() bool {
		newest := m.ring().Keys()[0]
		return newest.Secret != next.Secret
	}
	if m.reachAll(ctx, next, &r, handOutTime, overtaken); ctx.Err() != nil {
		return // it is resumed at the next start
	}
	if overtaken() {
		r.Phase = PhaseOvertaken
		m.setRotation(r)
		m.log.Warn("another member's rotation of the cluster secret counts", "key", m.ring().Keys()[0].Secret.KeyNumber)
		return
	}
	next.InUse = true
	m.changeKeys(func(ring *keyring.Ring) bool { return m.addKeys(ring, []keyring.Key{next}) })
	r.Phase = PhaseSwitch
	m.setRotation(r)
	m.reachAll(ctx, next, &r, switchTime, func() bool { return false })
	m.tellSoon()
	r.Phase = PhaseDone
	m.setRotation(r)
	m.log.Info("cluster secret rotated", "key", r.Number, "members", len(r.Has), "missing", len(r.Missing))
}

// reachAll compares with all members that are alive until each has the secret
// (in use, if it is here), patience is over, or stop says so.
func (m *Mesh) reachAll(ctx context.Context, key keyring.Key, r *Rotation, patience time.Duration, stop func() bool) {
	began, done := m.now(), make(map[identity.NodeID]bool)
	for {
		r.Missing = make(map[identity.NodeID]string)
		for id, err := range m.reachOnce(ctx, key, done) {
			r.Missing[id] = err.Error()
		}
		left := len(r.Missing)
		r.Has = r.Has[:0:0]
		for id := range done {
			r.Has = append(r.Has, id)
		}
		r.Has = sortedIDs(r.Has)
		m.addAway(r)
		m.setRotation(*r)
		lonely := len(done) == 0 && len(r.Missing) > 0 // just started, perhaps
		if ctx.Err() != nil || stop() || left == 0 && !lonely || m.now()-began >= patience {
			return
		}
		select {
		case <-time.After(handOutPause):
		case <-ctx.Done():
		}
	}
}

// reachOnce compares with those members that are alive and not done, and
// returns why not with the others.
func (m *Mesh) reachOnce(ctx context.Context, key keyring.Key, done map[identity.NodeID]bool) map[identity.NodeID]error {
	var (
		mu      sync.Mutex
		running sync.WaitGroup
		failed  = make(map[identity.NodeID]error)
		free    = make(chan struct{}, maxCompares)
	)
	for _, id := range m.aliveOthers() {
		if done[id] {
			continue
		}
		running.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			after, err := m.compareWith(ctx, id)
			held, inUse := after.Holds(key)
			switch {
			case errors.Is(err, quicnet.ErrUnknownProtocol):
				err = errors.New("its version does not know rotations; update it")
			case err == nil && !held:
				err = errors.New("it refused the new secret; cluster.admins there says from whom it takes one")
			case err == nil && key.InUse && !inUse:
				err = errors.New("it has not put the new secret to use yet")
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[id] = err
			} else {
				done[id] = true
			}
		})
	}
	running.Wait()
	return failed
}

// addAway adds the members that are not alive to those missing.
func (m *Mesh) addAway(r *Rotation) {
	for _, id := range m.memberIDs() {
		if _, noted := r.Missing[id]; !noted && id != m.self && !slices.Contains(r.Has, id) {
			r.Missing[id] = "away; it is given the secret when it is back"
		}
	}
}

// Keys is the state of the cluster secret here.
type Keys struct {
	Number      uint32 // key number in use
	Fingerprint string // of the secret in use
	Oldest      uint32 // smallest key number that is accepted
	Next        uint32 // key number that is handed out and not in use yet; 0: none
	// Behind are members that are alive and use another key, as far as known,
	// by NodeID.
	Behind   []identity.NodeID
	Rotation Rotation
	// Problems are what a person should know.
	Problems []string
}

// Keys returns the state of the cluster secret here.
func (m *Mesh) Keys() Keys {
	alive := m.aliveOthers()
	b := &m.belonging
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.ring.Current().Secret
	k := Keys{Number: current.KeyNumber, Fingerprint: current.Fingerprint(), Oldest: b.ring.Oldest(), Rotation: b.rotation}
	k.Rotation.Has, k.Rotation.Missing = slices.Clone(b.rotation.Has), make(map[identity.NodeID]string)
	for id, why := range b.rotation.Missing {
		if b.rotation.Phase == PhaseDone && b.seen[id] >= b.rotation.Number { // it is back
			k.Rotation.Has = sortedIDs(append(k.Rotation.Has, id))
		} else if _, removed := b.removals.Find(id, m.counts); !removed {
			k.Rotation.Missing[id] = why
		}
	}
	if next, ok := b.ring.Next(); ok {
		k.Next = next.Secret.KeyNumber
	}
	for _, id := range alive {
		if n, noted := b.seen[id]; noted && n < current.KeyNumber {
			k.Behind = append(k.Behind, id)
		}
	}
	if s, removed := b.removals.Find(m.self, m.counts); removed && b.problems[weAreRemoved] == "" {
		k.Problems = append(k.Problems, fmt.Sprintf("identity %s: this node was removed from the cluster by %s; remove the file \"identity\" in node.state_dir and restart, so that it becomes a new node, if it is to return", m.self.Short(), s.Issuer().Short()))
	}
	for _, kind := range []problemKind{weAreRemoved, weAreBehind, keyRefused, keysNotKept, removalsNotKept, keysDamaged, removalsDamaged} {
		if text, there := b.problems[kind]; there {
			k.Problems = append(k.Problems, text)
		}
	}
	return k
}

func sortedIDs(ids []identity.NodeID) []identity.NodeID {
	slices.SortFunc(ids, identity.NodeID.Compare)
	return ids
}
