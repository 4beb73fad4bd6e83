package gossip

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serialspan/serialspan/mesh/identity"
)

// delegate is what memberlist calls, with its locks held: nothing here may call
// memberlist, the queue's NumNodes apart, or block.
type delegate Gossip

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

// NodeMeta returns our record. One that is too long would make memberlist
// panic; an empty one is vetoed by everyone, us included.
func (d *delegate) NodeMeta(limit int) []byte {
	meta := d.cfg.Meta()
	if len(meta) > limit {
		d.cfg.Logger.Error("own node record does not fit", "bytes", len(meta), "limit", limit)
		return nil
	}
	return bytes.Clone(meta)
}

// NotifyAlive vetoes members whose record is not theirs.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	id, err := d.check(n)
	if err != nil {
		d.mu.Lock()
		d.stats.Vetoed++
		d.mu.Unlock()
		return err
	}
	g := (*Gossip)(d)
	g.mu.Lock()
	m := g.member(id)
	fresh := !bytes.Equal(m.verified, n.Meta)
	if fresh {
		m.verified = bytes.Clone(n.Meta)
		if len(g.pending.records) < recordQueue {
			g.pending.records = append(g.pending.records, Member{ID: id, Meta: m.verified})
		} else {
			g.stats.Records++
		}
	}
	g.mu.Unlock()
	if fresh {
		g.signal()
	}
	return nil
}

func (d *delegate) check(n *memberlist.Node) (identity.NodeID, error) {
	id, err := identity.ParseNodeID(n.Name)
	if err != nil {
		return id, fmt.Errorf("check member: %w", err)
	}
	if n.Name != id.String() {
		return id, fmt.Errorf("check member %s: name is not canonical", id)
	}
	addr, ok := netip.AddrFromSlice(n.Addr)
	if !ok || addr.Unmap() != d.cfg.Address(id) || n.Port != port {
		return id, fmt.Errorf("check member %s: address %v port %d is not its mesh address", id, n.Addr, n.Port)
	}
	d.mu.Lock()
	expelled := d.expelled[id]
	m, known := d.members[id]
	verified := known && len(n.Meta) > 0 && bytes.Equal(m.verified, n.Meta)
	d.mu.Unlock()
	if expelled {
		return id, fmt.Errorf("check member %s: %w", id, errExpelled)
	}
	if verified {
		return id, nil
	}
	owner, err := d.cfg.Verify(n.Meta)
	if err != nil {
		return id, fmt.Errorf("check member %s: %w", id, err)
	}
	if owner != id {
		return id, fmt.Errorf("check member %s: the record is that of %s", id, owner)
	}
	return id, nil
}

// NotifyJoin is told of a member that is alive and was not.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.set(n, Alive) }

// NotifyUpdate is told of a new record.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.set(n, Alive) }

// NotifyLeave is told of a member that failed or left; memberlist does not say
// which.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.set(n, Dead) }

func (d *delegate) set(n *memberlist.Node, s State) {
	id, err := identity.ParseNodeID(n.Name)
	if err != nil {
		return // NotifyAlive has let none in
	}
	g := (*Gossip)(d)
	now := time.Now()
	g.mu.Lock()
	if g.expelled[id] {
		g.mu.Unlock()
		return
	}
	m := g.member(id)
	if m.state == Alive != (s == Alive) {
		g.living, g.near = nil, nil
	}
	m.state, m.meta = s, bytes.Clone(n.Meta)
	m.row = summaryRow(id, m.meta)
	if s == Dead && m.parting && m.farewell == hashRecord(m.meta) {
		m.state = Left
	}
	g.pending.change(id)
	g.changed, g.sum = now, nil
	g.mu.Unlock()
	g.signal()
}

func (p *pending) change(id identity.NodeID) {
	if p.changed == nil {
		p.changed = make(map[identity.NodeID]struct{})
	}
	p.changed[id] = struct{}{}
}

// member is called with mu held.
func (g *Gossip) member(id identity.NodeID) *member {
	m, ok := g.members[id]
	if !ok {
		m = &member{}
		g.members[id] = m
	}
	return m
}

// NotifyMsg is told of a frame; buf is memberlist's.
func (d *delegate) NotifyMsg(buf []byte) {
	g := (*Gossip)(d)
	if len(buf) == 0 {
		g.dropFrame()
		return
	}
	switch buf[0] {
	case frameMessage:
		g.receiveMessage(buf)
	case frameFarewell:
		if f, err := parseFarewell(buf); err == nil {
			g.receiveFarewell(f)
		} else {
			g.dropFrame()
		}
	case frameDigest:
		if f, err := parseDigest(buf); err == nil {
			g.receiveDigest(f)
		} else {
			g.dropFrame()
		}
	default:
		g.dropFrame()
	}
}

func (g *Gossip) dropFrame() {
	g.mu.Lock()
	g.stats.Frames++
	g.mu.Unlock()
}

// receiveMessage tells a message that is new, and passes it on.
func (g *Gossip) receiveMessage(buf []byte) {
	if _, err := parseMessage(buf); err != nil {
		g.dropFrame()
		return
	}
	frame := bytes.Clone(buf)
	m, _ := parseMessage(frame) // as before
	now := time.Now()
	g.mu.Lock()
	if !g.seen.add(now, m.name, m.body) {
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	if g.cfg.Known(m.body) {
		return
	}
	g.mu.Lock()
	if len(g.pending.messages) < messageQueue {
		g.pending.messages = append(g.pending.messages, bytes.Clone(m.body))
	} else {
		g.stats.Messages++
	}
	key := g.supersede(m)
	g.mu.Unlock()
	g.signal()
	if key != "" {
		g.spread(key, frame)
	}
}

// receiveFarewell passes a farewell on, once, if it is of the record that we
// know: so nobody can make us keep or repeat more than one for each member.
func (g *Gossip) receiveFarewell(f farewell) {
	if f.id == g.cfg.Self {
		return // nobody else says it for us
	}
	g.mu.Lock()
	m, known := g.members[f.id]
	if !known || m.parting && m.farewell == f.record || f.record != hashRecord(m.verified) {
		g.mu.Unlock()
		return
	}
	m.parting, m.farewell = true, f.record
	if m.state == Dead && f.record == hashRecord(m.meta) {
		m.state = Left
		g.pending.change(f.id)
	}
	g.mu.Unlock()
	g.signal()
	g.spreadFarewell(f)
}

// supersede returns the name under which a message is queued, or "" if a newer
// one of its name is. Called with mu held.
func (g *Gossip) supersede(m message) string {
	key := string(m.run[:]) + m.name
	if newest, ok := g.queued[key]; ok && newest > m.counter {
		return ""
	}
	if len(g.queued) >= seenLimit {
		clear(g.queued) // costs a few needless packets at worst
	}
	g.queued[key] = m.counter
	return key
}

func (g *Gossip) spreadFarewell(f farewell) {
	g.spread("farewell "+f.id.String(), f.encode())
}

// GetBroadcasts gives memberlist frames to put into a packet.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState gives a joining member the farewells of those who left, because
// memberlist tells it only that they are gone.
func (d *delegate) LocalState(bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []byte
	for id, m := range d.members {
		if m.state == Left {
			out = append(out, farewell{id: id, record: m.farewell}.encode()...)
		}
	}
	return out
}

// MergeRemoteState takes what LocalState of the other side gave.
func (d *delegate) MergeRemoteState(buf []byte, _ bool) {
	for len(buf) >= farewellSize {
		f, err := parseFarewell(buf[:farewellSize])
		if err != nil {
			(*Gossip)(d).dropFrame()
			return
		}
		(*Gossip)(d).receiveFarewell(f)
		buf = buf[farewellSize:]
	}
}

// broadcast is a queued frame.
type broadcast struct {
	name  string
	frame []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

// Name makes a newer frame of the same name replace this one.
func (b *broadcast) Name() string { return b.name }

// Invalidates is not used for named broadcasts.
func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	named, ok := other.(memberlist.NamedBroadcast)
	return ok && named.Name() == b.name
}

// Message returns the frame.
func (b *broadcast) Message() []byte { return b.frame }

// Finished has nothing to do.
func (b *broadcast) Finished() {}
