package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// arbitrate decides who has the device: it returns the lease that serves the
// OPEN, and whether that is a resumed one. The gate is held.
func (d *device) arbitrate(open session.Open, peer identity.NodeID) (*lease, bool, error) {
	d.mu.Lock()
	holder, port, rule, fault := d.lease, d.port, d.want.rule, d.fault
	closed := d.closed
	d.mu.Unlock()
	switch {
	case closed:
		return nil, false, &session.CloseError{Code: session.CodeShuttingDown}
	case !rule.allows(peer):
		return nil, false, &session.CloseError{Code: session.CodeRefused, Text: fmt.Sprintf("%q does not allow node %s", d.name, peer)}
	case open.ReadOnly:
		return nil, false, &session.CloseError{Code: session.CodeRefused, Text: "this version has no read-only sessions"}
	case holder != nil && open.Resume && holder.link.id == open.ID && holder.peer == peer:
		return d.resume(holder, open)
	case holder != nil && holder.link.id == open.ID && holder.peer == peer:
		// The ACCEPT was lost: nobody has seen this session, begin it anew.
		d.end(holder, session.CloseError{Code: session.CodeNormal})
		holder = nil
	}
	switch {
	case port == nil:
		if fault == "" {
			fault = "unplugged"
		}
		return nil, false, &session.CloseError{Code: session.CodeGone, Text: fault}
	case holder != nil && !mayTake(open.Take, rule.Busy):
		return nil, false, &session.CloseError{Code: session.CodeBusy, Text: "held by " + d.publisher.config.NameOf(holder.peer)}
	}
	if holder != nil {
		d.end(holder, session.CloseError{Code: session.CodeKicked, Text: "taken by " + d.publisher.config.NameOf(peer)})
	}
	return d.begin(port, open, peer), false, nil
}

// mayTake reports whether an open may end the session of the holder.
func mayTake(take session.Take, busy Busy) bool {
	return take == session.TakeForce || take == session.TakeNormal && busy == BusyKick
}

func (d *device) resume(l *lease, open session.Open) (*lease, bool, error) {
	stats := l.link.resumes()
	d.log.Info("session resumed", "session", l.link.id, "node", l.peer, "offset", open.Next, "resumed", stats)
	return l, true, nil
}

// begin starts a session on the open port. Nothing that the device sent
// before is delivered. The gate is held.
func (d *device) begin(port Port, open session.Open, peer identity.NodeID) *lease {
	log := d.log.With("node", peer)
	if wanted, err := line.Parse(open.Line); err == nil && wanted != port.Line() {
		if err := port.SetLine(wanted); err != nil {
			log.Warn("line settings not applied", "line", open.Line, "err", err)
		}
	}
	l := &lease{peer: peer, kind: open.Kind, began: time.Now()}
	l.link = newLink(open.ID, d.publisher.config.Window, &portSink{Port: port, device: d, lease: l}, log)
	if open.Resume {
		// The consumer's session is not known here: it learns how much of
		// what this side had for it is lost, before anything else.
		lost, known := d.publisher.buried(open.ID)
		if lost > 0 || !known {
			_ = l.link.control(session.Control{Kind: session.KindGap, Lost: lost, Unknown: !known})
		}
	}
	if err := port.PurgeInput(); err != nil {
		log.Warn("input not purged", "err", err)
	}
	d.mu.Lock()
	d.lease = l
	d.mu.Unlock()
	log.Info("session begins", "session", open.ID, "kind", open.Kind)
	return l
}

// end ends the session of l, or of whoever has the device if l is nil; a
// lease that is over already stays so. Nothing of the session reaches the
// port once it returned.
func (d *device) end(l *lease, why session.CloseError) {
	d.mu.Lock()
	if d.lease == nil || l != nil && d.lease != l {
		d.mu.Unlock()
		return
	}
	l = d.lease
	d.lease = nil
	if l.over != nil {
		close(l.over)
		l.over = nil
	}
	d.mu.Unlock()
	lost := l.link.close(why)
	stats, _ := l.link.view()
	attributes := []any{"session", l.link.id, "node", l.peer, "reason", why.Code.Error(), "sent", stats.sent, "received", stats.received}
	if lost > 0 && why.Code != session.CodeNormal {
		d.publisher.bury(l.link.id, uint64(lost))
		d.log.Warn("session ended with a gap", append(attributes, "lost", lost)...)
	} else {
		d.publisher.bury(l.link.id, 0)
		d.log.Info("session ended", attributes...)
	}
	signal(d.publisher.dirty)
}

// portSink is a port as the local side of a session.
type portSink struct {
	Port
	device *device
	lease  *lease
}

// drainTimeout bounds how long line settings wait for the bytes before them:
// what the tty layer keeps (4 KiB) at 9600 bit/s. Flow control may hold them
// for ever.
const drainTimeout = 5 * time.Second

func (s *portSink) apply(ctx context.Context, c session.Control) {
	switch c.Kind {
	case session.KindLine:
		wanted, err := line.Parse(c.Line)
		if err == nil && wanted == s.Line() {
			return
		}
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, drainTimeout)
			if err := s.Drain(ctx); err != nil {
				s.device.log.Debug("bytes not sent before new line settings", "err", err)
			}
			cancel()
			err = s.SetLine(wanted)
		}
		if err != nil {
			s.device.log.Warn("line settings not applied", "line", c.Line, "err", err)
		}
		signal(s.device.publisher.dirty)
	case session.KindGap:
		s.device.log.Warn("consumer lost bytes for the device", "node", s.lease.peer, "lost", c.Lost, "unknown", c.Unknown)
		s.device.mu.Lock()
		s.lease.lost += c.Lost
		s.device.mu.Unlock()
	}
}

func (s *portSink) purge(bits uint64) {
	if bits&session.PurgeReceive != 0 {
		_ = s.PurgeInput() // a tty that cannot is a PTY: nothing to purge
	}
	if bits&session.PurgeTransmit != 0 {
		_ = s.PurgeOutput()
	}
}

// graves remembers how many bytes each of the last sessions lost, for
// consumers that come back after hold.
type graves struct {
	order []session.ID
	lost  map[session.ID]uint64
}

// maxGraves bounds them: more consumers than that coming back at once to one
// node learn "unknown".
const maxGraves = 64

func (p *Publisher) bury(id session.ID, lost uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &p.graves
	if g.lost == nil {
		g.lost = map[session.ID]uint64{}
	}
	if _, again := g.lost[id]; !again {
		g.order = append(g.order, id)
	}
	g.lost[id] = lost
	if len(g.order) > maxGraves {
		delete(g.lost, g.order[0])
		g.order = g.order[1:]
	}
}

// buried returns what a session lost, and whether it is remembered.
func (p *Publisher) buried(id session.ID) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost, ok := p.graves.lost[id]
	return lost, ok
}
