package mesh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/admission"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/removal"
)

// admissionProtocol carries the exchange of package internal/admission.
const admissionProtocol = "admission/1"

const (
	// maxCompares bounds the exchanges that run at once, begun here and by
	// others each.
	maxCompares = 8
	// compareEvery is the mean time between exchanges with a member chosen at
	// random: it mends what hints that were lost left behind.
	compareEvery = 15 * time.Minute
	// hintSpread is how long a change may stay untold. If another member tells
	// the same before, it stays so, so that few do.
	hintSpread = 3 * time.Second
	// reactSpread keeps members that hear a hint from coming all at once.
	reactSpread = time.Second
)

// ErrTooOld is wrapped by the error of an exchange in which one side's secrets
// are all too old for the other.
var ErrTooOld = errors.New("no secret in common")

// compareWith compares secrets and removals with a member and gives and takes
// what is missing. It returns what the member holds then.
func (m *Mesh) compareWith(ctx context.Context, id identity.NodeID) (admission.Hello, error) {
	if !m.admits(id) {
		return admission.Hello{}, fmt.Errorf("compare secrets with %s: %w", id.Short(), join.ErrNotAdmitted)
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	conn, err := m.quic.Dial(ctx, id, admissionProtocol)
	if err != nil {
		return admission.Hello{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	after, err := m.ask(conn, id)
	if err != nil {
		return admission.Hello{}, fmt.Errorf("compare secrets with %s: %w", id.Short(), err)
	}
	m.noteNumber(id, after.Newest())
	return after, nil
}

// noteNumber notes which key a member uses.
func (m *Mesh) noteNumber(id identity.NodeID, number uint32) {
	b := &m.belonging
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, noted := b.seen[id]; noted || len(b.seen) < maxNoted {
		b.seen[id] = number
	}
}

// maxNoted bounds the members whose key number is noted.
const maxNoted = 4096

// hello says what this node holds; it returns the secrets and removals meant.
func (m *Mesh) hello() (h admission.Hello, keys []keyring.Key, removals []removal.Statement) {
	b := &m.belonging
	b.mu.Lock()
	keys, removals = b.ring.Keys(), b.removals.All()
	h = admission.Hello{Version: admission.Version, Keys: admission.Tags(keys), Removals: b.removals.Digest()}
	b.mu.Unlock()
	_, _ = rand.Read(h.Nonce[:]) // never fails, crypto/rand
	return h, keys, removals
}

// ask is the dialer's side.
func (m *Mesh) ask(conn net.Conn, id identity.NodeID) (after admission.Hello, err error) {
	hello, keys, removals := m.hello()
	out, err := admission.Append(nil, hello)
	if err != nil {
		return after, err
	}
	if _, err := conn.Write(out); err != nil {
		return after, err
	}
	frame, theirs, err := receive[admission.Hello](conn)
	if err != nil {
		return after, err
	}
	secret, ok := admission.Common(keys, theirs)
	if !ok {
		return after, m.notInCommon(id, theirs)
	}
	t := admission.Transcript{Dialer: m.self, Accepter: id, DialerHello: out[4:], AccepterHello: frame}
	_, proof, err := receive[admission.Proof](conn)
	if err != nil {
		return after, err
	}
	if !t.Verify(secret, admission.Accepter, proof) {
		return after, fmt.Errorf("%w: it does not hold the secret", admission.ErrMessage)
	}
	out, err = admission.Append(nil, t.Prove(secret, admission.Dialer))
	if err == nil {
		out, err = admission.Append(out, m.gift(id, hello, keys, removals, theirs))
	}
	if err == nil {
		_, err = conn.Write(out)
	}
	if err != nil {
		return after, err
	}
	_, gift, err := receive[admission.Gift](conn)
	if err != nil {
		return after, err
	}
	m.takeGift(id, gift)
	if _, after, err = receive[admission.Hello](conn); err != nil {
		return after, err
	}
	hello, _, _ = m.hello()
	if out, err = admission.Append(nil, hello); err == nil {
		_, err = conn.Write(out)
	}
	return after, err
}

// answer is the accepter's side.
func (m *Mesh) answer(conn net.Conn, id identity.NodeID) error {
	frame, theirs, err := receive[admission.Hello](conn)
	if err != nil {
		return err
	}
	hello, keys, removals := m.hello()
	out, err := admission.Append(nil, hello)
	if err != nil {
		return err
	}
	t := admission.Transcript{Dialer: id, Accepter: m.self, DialerHello: frame, AccepterHello: out[4:]}
	secret, ok := admission.Common(keys, theirs)
	if ok {
		out, err = admission.Append(out, t.Prove(secret, admission.Accepter))
	}
	if err == nil {
		_, err = conn.Write(out)
	}
	if err != nil {
		return err
	}
	if !ok {
		return m.notInCommon(id, theirs)
	}
	_, proof, err := receive[admission.Proof](conn)
	if err != nil {
		return err
	}
	if !t.Verify(secret, admission.Dialer, proof) {
		return fmt.Errorf("%w: it does not hold the secret", admission.ErrMessage)
	}
	_, gift, err := receive[admission.Gift](conn)
	if err != nil {
		return err
	}
	m.takeGift(id, gift)
	out, err = admission.Append(nil, m.gift(id, hello, keys, removals, theirs))
	if err == nil {
		hello, _, _ = m.hello()
		out, err = admission.Append(out, hello)
	}
	if err == nil {
		_, err = conn.Write(out)
	}
	if err != nil {
		return err
	}
	if _, theirs, err = receive[admission.Hello](conn); err == nil {
		m.noteNumber(id, theirs.Newest())
	}
	return err
}

func receive[M admission.Hello | admission.Proof | admission.Gift](conn net.Conn) (frame []byte, message M, err error) {
	if frame, err = admission.ReadFrame(conn); err != nil {
		return nil, message, err
	}
	message, err = admission.Parse[M](frame)
	return frame, message, err
}

// gift is what the other lacks; nothing for one that was removed meanwhile,
// perhaps by what it gave itself.
func (m *Mesh) gift(to identity.NodeID, ours admission.Hello, keys []keyring.Key, removals []removal.Statement, theirs admission.Hello) admission.Gift {
	if !m.admits(to) {
		return admission.Gift{}
	}
	g := admission.Gift{Keys: admission.Missing(keys, theirs)}
	if ours.Removals != theirs.Removals {
		for _, s := range removals {
			g.Removals = append(g.Removals, s.Wire())
		}
	}
	return g
}

// notInCommon says which side's secrets are too old.
func (m *Mesh) notInCommon(id identity.NodeID, theirs admission.Hello) error {
	ours := m.Secret().KeyNumber
	if n := theirs.Newest(); n > ours {
		m.belonging.problem(weAreBehind, fmt.Sprintf(
			"cluster secret: this member's secret is %d rotations old (key %d, %s uses key %d), too old to be given the new one; copy the secret file of a member that is up to date, and restart the agent",
			n-ours, ours, m.nameOf(id), n))
		m.watch.changed()
		return fmt.Errorf("%w: this member's is %d rotations old", ErrTooOld, n-ours)
	}
	return fmt.Errorf("%w: its newest is key %d, ours key %d", ErrTooOld, theirs.Newest(), ours)
}

// takeGift takes over what a member gave, as far as it is honoured here.
func (m *Mesh) takeGift(from identity.NodeID, gift admission.Gift) {
	cluster := m.cfg.Secret.Cluster
	var statements []removal.Statement
	for _, wire := range gift.Removals {
		s, err := removal.Parse(cluster, wire)
		if err != nil {
			m.log.Debug("removal not valid", "node", from.Short(), "err", err)
			continue
		}
		statements = append(statements, s)
	}
	// First these: a removed node's secrets are not taken.
	changed := m.addRemovals(statements)
	var keys []keyring.Key
	for _, g := range gift.Keys {
		key, err := g.Key(cluster)
		switch {
		case err != nil:
			m.log.Debug("secret not valid", "node", from.Short(), "err", err)
		case !m.mayRotate(key.Statement.Issuer()):
			m.refuseKey(key)
		default:
			keys = append(keys, key)
		}
	}
	before := m.Secret()
	if len(keys) > 0 && m.changeKeys(func(ring *keyring.Ring) (changed bool) { return m.addKeys(ring, keys) }) {
		changed = true
	}
	if m.Secret() != before {
		m.passOnSoon()
	}
	if changed {
		m.tellSoon()
	}
}

// addKeys adds secrets to a ring, noting who is a member before the one in use
// changes.
func (m *Mesh) addKeys(ring *keyring.Ring, keys []keyring.Key) (changed bool) {
	for _, key := range keys {
		if key.InUse && key.Secret.Compare(ring.Current().Secret) > 0 {
			ring.Know(m.memberIDs())
		}
		added, err := ring.Add(key)
		if err != nil {
			m.log.Debug("secret not taken", "err", err)
		}
		changed = changed || added
	}
	return changed
}

// refuseKey notes a secret that is not taken because of who made it.
func (m *Mesh) refuseKey(key keyring.Key) {
	ring := m.ring()
	if key.Secret.Compare(ring.Current().Secret) <= 0 {
		return
	}
	m.log.Warn("new cluster secret refused, who made it is not in cluster.admins", "node", key.Statement.Issuer().Short(), "key", key.Secret.KeyNumber)
	m.belonging.problem(keyRefused, fmt.Sprintf(
		"cluster secret: key %d made by %s is refused, it is not in cluster.admins here; add it there if the rotation was meant, or this member falls behind",
		key.Secret.KeyNumber, key.Statement.Issuer()))
	m.watch.changed()
}

// memberIDs returns all known members.
func (m *Mesh) memberIDs() []identity.NodeID {
	var ids []identity.NodeID
	for _, s := range m.roster.All() {
		ids = append(ids, s.ID())
	}
	return ids
}

// belongLoop tells and hears hints, compares with members, and carries removals
// out. It joins the exchanges that it begins.
func (m *Mesh) belongLoop(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, maxCompares)
	timer := time.NewTimer(0)
	defer timer.Stop()
	random := time.NewTimer(compareEvery/2 + mathrand.N(compareEvery))
	defer random.Stop()
	for {
		var due []identity.NodeID
		select {
		case <-ctx.Done():
			return
		case <-m.belonging.wake:
		case <-timer.C:
		case <-random.C:
			random.Reset(compareEvery/2 + mathrand.N(compareEvery))
			if id, ok := m.anyAlive(); ok {
				due = append(due, id)
			}
		}
		m.takeHeard()
		m.enforce()
		due = append(due, m.dueCompares()...)
		for _, id := range due {
			running.Go(func() {
				select {
				case free <- struct{}{}:
					defer func() { <-free }()
				case <-ctx.Done():
					return
				}
				if _, err := m.compareWith(ctx, id); err != nil && ctx.Err() == nil {
					m.log.Debug("secrets not compared", "node", id.Short(), "err", err)
				}
			})
		}
		timer.Reset(m.tellHint())
	}
}

// anyAlive picks another member at random.
func (m *Mesh) anyAlive() (identity.NodeID, bool) {
	ids := m.aliveOthers()
	if len(ids) == 0 {
		return identity.NodeID{}, false
	}
	return ids[mathrand.N(len(ids))], true
}

// aliveOthers returns the other members that are alive, by NodeID.
func (m *Mesh) aliveOthers() []identity.NodeID {
	var ids []identity.NodeID
	m.do(func() {
		for id, alive := range m.alive {
			if alive && id != m.self && m.admits(id) {
				ids = append(ids, id)
			}
		}
	})
	return sortedIDs(ids)
}

// answerLoop answers exchanges of others; it joins them.
func (m *Mesh) answerLoop(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, maxCompares)
	for {
		conn, from, err := m.quic.Accept(ctx, admissionProtocol)
		if err != nil {
			return
		}
		running.Go(func() {
			defer conn.Close()
			ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
			defer cancel()
			defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
			select {
			case free <- struct{}{}:
				defer func() { <-free }()
			case <-ctx.Done():
				return
			}
			if _, known := m.roster.Get(from); !known || !m.admits(from) {
				return
			}
			if err := m.answer(conn, from); err != nil && ctx.Err() == nil {
				m.log.Debug("secrets not compared", "node", from.Short(), "err", err)
			}
		})
	}
}
