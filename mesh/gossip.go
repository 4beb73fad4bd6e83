package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/internal/plane"
	"github.com/serialspan/serialspan/mesh/roster"
)

// exchangeTimeout bounds one exchange of memberships, its dial included.
const exchangeTimeout = 10 * time.Second

// An exchange that failed is tried again after pauses that grow from
// exchangePause to exchangeLast, then left to the join loop: a member was
// reached by three datagrams, and on a bad network the next three may take long.
const (
	exchangePause = 500 * time.Millisecond
	exchangeLast  = 4 * time.Second
)

func (m *Mesh) assembleGossip() error {
	var err error
	m.gossip, err = gossip.New(gossip.Config{
		Self:     m.self,
		Address:  m.Address,
		Label:    m.cfg.Secret.Cluster.Label(),
		Key:      m.cfg.Secret.GossipKey(),
		Meta:     func() []byte { return m.roster.Self().Wire() },
		Verify:   m.verifyMeta,
		OnRecord: m.takeMeta,
		Packets:  m.plane.Gossip(),
		Addr:     func(id identity.NodeID) net.Addr { return plane.Addr{ID: id} },
		NodeOf:   plane.NodeOf,
		DialStream: func(ctx context.Context, id identity.NodeID) (net.Conn, error) {
			return m.quic.Dial(ctx, id, gossipProtocol)
		},
		AcceptStream: func(ctx context.Context) (net.Conn, identity.NodeID, error) {
			return m.quic.Accept(ctx, gossipProtocol)
		},
		OnMessage: m.takeBroadcast,
		Known:     m.knowsBroadcast,
		Digest:    m.cfg.Digest,
		OnDiffer:  m.cfg.OnDiffer,
		OnChange:  m.takeLiveness,
		Logger:    m.log,
	})
	return err
}

// verifyMeta checks the signed record that a member's liveness comes with. It
// vetoes only what is invalid or not admitted, never what is merely unknown: a
// veto stops the epidemic here.
func (m *Mesh) verifyMeta(meta []byte) (identity.NodeID, error) {
	signed, err := roster.Parse(m.cfg.Secret.Cluster, meta)
	if err != nil {
		return identity.NodeID{}, err
	}
	if id := signed.ID(); id != m.self && !m.admits(id) {
		return identity.NodeID{}, fmt.Errorf("verify member %s: %w", id, join.ErrNotAdmitted)
	}
	m.verified.put(signed)
	return signed.ID(), nil
}

// verified keeps the records that verifyMeta has read until takeMeta, which is
// told them a moment later, takes them: most of what a record costs is its
// signature. It is safe for concurrent use; its zero value is ready.
type verified struct {
	mu      sync.Mutex
	records map[identity.NodeID]roster.Signed
}

// verifiedLimit bounds the records that wait for takeMeta.
const verifiedLimit = 256

func (v *verified) put(s roster.Signed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.records == nil || len(v.records) >= verifiedLimit {
		v.records = make(map[identity.NodeID]roster.Signed)
	}
	v.records[s.ID()] = s
}

// take returns the record of a member if it is the one with these bytes.
func (v *verified) take(id identity.NodeID, meta []byte) (roster.Signed, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.records[id]
	if !ok || !bytes.Equal(s.Wire(), meta) {
		return roster.Signed{}, false
	}
	delete(v.records, id)
	return s, true
}

// takeLiveness notes who is alive now.
func (m *Mesh) takeLiveness(changed []gossip.Member) {
	m.do(func() {
		for _, g := range changed {
			if g.State == 0 {
				delete(m.alive, g.ID)
			} else {
				m.alive[g.ID] = g.State == gossip.Alive
			}
		}
		m.membership.Add(1)
		m.later(m.watch.changed)
	})
}

// takeMeta takes the record of a verified Meta.
func (m *Mesh) takeMeta(id identity.NodeID, meta []byte) {
	signed, ok := m.verified.take(id, meta)
	if !ok { // another one, or many, came in between
		var err error
		if signed, err = roster.Parse(m.cfg.Secret.Cluster, meta); err != nil {
			return // verified a moment ago
		}
	}
	m.do(func() { m.merge(signed, hearsay) })
}

// gossipLoop exchanges memberships with members just reached, and spreads our
// record when it has changed.
func (m *Mesh) gossipLoop(ctx context.Context) {
	var exchanges sync.WaitGroup
	defer exchanges.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.joining.meta:
			m.gossip.UpdateMeta()
		case <-m.joining.met:
			for _, id := range m.joining.take() {
				exchanges.Go(func() { m.exchangeMemberships(ctx, id) })
			}
		}
	}
}

func (m *Mesh) exchangeMemberships(ctx context.Context, id identity.NodeID) {
	for pause := exchangePause; ; pause *= 2 {
		err := m.exchangeOnce(ctx, id)
		if err == nil {
			return
		}
		m.log.Debug("membership exchange failed", "node", id.Short(), "err", err)
		if pause > exchangeLast {
			return // the join loop comes by again as long as the member is missing
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (m *Mesh) exchangeOnce(ctx context.Context, id identity.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	// Side by side, since they mostly agree on the secret. Where the other has
	// a newer one, its side of the exchange opens only after that is here.
	compared := make(chan error, 1)
	go func() {
		_, err := m.compareWith(ctx, id)
		compared <- err
	}()
	// Whoever is alive here is in the same membership already: two members that
	// meet exchange it only where a newcomer or a partition is concerned.
	var together bool
	m.do(func() { together = m.alive[id] })
	var err error
	if !together {
		err = m.gossip.Join(ctx, []identity.NodeID{id})
	}
	if compareErr := <-compared; compareErr != nil {
		m.log.Debug("secrets not compared", "node", id.Short(), "err", compareErr)
	} else if err != nil {
		err = m.gossip.Join(ctx, []identity.NodeID{id})
	}
	return err
}

// Leave tells the others that this node goes, and blocks until they were told,
// a second at most. Streams go on meanwhile: whoever wants the least time
// between an end and the next start says so before it ends what uses them. Run
// does it at its end, if it was not done. Only the first call does anything.
func (m *Mesh) Leave() { m.left.Do(m.leave) }

func (m *Mesh) leave() {
	if err := m.gossip.Leave(leaveTimeout); err != nil {
		m.log.Debug("leave not told", "err", err)
	}
}

// Broadcast spreads a message of at most 1,000 bytes to all members, best
// effort: a member may miss it. A newer message of the same name takes the
// place of an older one that is still under way.
func (m *Mesh) Broadcast(name string, message []byte) {
	// gossip carries the name along and wants it short.
	sum := sha256.Sum256([]byte(name))
	if err := m.gossip.Broadcast(string(sum[:16]), message); err != nil {
		m.log.Debug("broadcast not sent", "err", err)
	}
}
