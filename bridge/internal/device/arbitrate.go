package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// await decides who has the device, and waits in line if its rule says so. On
// success the gate is held.
func (d *Device) await(ctx context.Context, open session.Open, peer identity.NodeID) (*lease, bool, error) {
	patience := time.NewTimer(waitPatience)
	defer patience.Stop()
	for {
		select {
		case d.gate <- struct{}{}:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		l, resumed, err := d.arbitrate(open, peer)
		if err == nil {
			d.leaveQueue(open.ID)
			return l, resumed, nil
		}
		<-d.gate
		if !errors.Is(err, session.CodeBusy) || !d.enqueue(open.ID, peer) {
			return nil, false, err
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil, false, err
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// arbitrate decides who has the device: it returns the lease that serves the
// OPEN, and whether that is a resumed one. The gate is held.
func (d *Device) arbitrate(open session.Open, peer identity.NodeID) (*lease, bool, error) {
	port := d.slot.Current()
	d.mu.Lock()
	leases, under, closed := d.leases, d.want.Rule, d.closed
	d.mu.Unlock()
	switch {
	case closed.Code != 0:
		return nil, false, &closed
	case !under.Allows(peer) && !(open.ReadOnly && under.AllowsRead(peer)):
		verb, key := "opened", "allow"
		if open.ReadOnly {
			verb, key = "read", "allow_read"
		}
		text := fmt.Sprintf("%q may not be %s by node %s; add it to %s of the device's rule", d.name, verb, peer, key)
		return nil, false, &session.CloseError{Code: session.CodeRefused, Text: text}
	}
	leases = d.supersede(leases, open.Replaces, peer)
	if l := leaseOf(leases, open.ID, peer); l != nil && open.Attempt != 0 && open.Attempt <= l.attempt {
		return nil, false, &session.CloseError{Code: session.CodeKicked, Text: "overtaken by a later open"}
	} else if l != nil && open.Resume {
		return d.resume(l, open)
	} else if l != nil {
		// The ACCEPT was lost: nobody has seen this session, begin it anew.
		leases = d.dismiss(leases, l)
	} else if why := d.config.Graves.mayRise(peer, open.ID); why != nil {
		return nil, false, why
	}
	if port == nil {
		return nil, false, &session.CloseError{Code: session.CodeGone, Text: d.whyGone()}
	}
	writers, _ := split(leases)
	first := d.before(open.ID)
	name := d.config.NameOf
	switch {
	case open.ReadOnly, under.Busy == rule.BusyShare:
	case len(writers) > 0 && !mayTake(open.Take, under.Busy):
		return nil, false, &session.CloseError{Code: session.CodeBusy, Text: "held by " + name(writers[0].peer)}
	case len(writers) == 0 && first != nil && open.Take != session.TakeForce:
		return nil, false, &session.CloseError{Code: session.CodeBusy, Text: "waited for by " + name(first.peer)}
	default:
		for _, l := range writers {
			d.end(l, session.CloseError{Code: session.CodeKicked, Text: "taken by " + name(peer)})
		}
	}
	return d.begin(open, peer), false, nil
}

// leaseOf returns the lease of the peer's session, nil if there is none.
func leaseOf(leases []*lease, id session.ID, peer identity.NodeID) *lease {
	i := slices.IndexFunc(leases, func(l *lease) bool { return l.link.ID == id && l.peer == peer })
	if i < 0 {
		return nil
	}
	return leases[i]
}

// dismiss ends the session of l, whose consumer has no use for it any more, and
// returns the leases without it.
func (d *Device) dismiss(leases []*lease, l *lease) []*lease {
	d.end(l, session.CloseError{Code: session.CodeNormal})
	return slices.DeleteFunc(slices.Clone(leases), func(o *lease) bool { return o == l })
}

// supersede ends the peer's sessions of these IDs, with or without a lease or a
// place in the queue, and returns the leases that are left. The gate is held.
func (d *Device) supersede(leases []*lease, ids []session.ID, peer identity.NodeID) []*lease {
	for _, id := range ids {
		if l := leaseOf(leases, id, peer); l != nil {
			leases = d.dismiss(leases, l)
		}
		d.leaveQueue(id)
		d.config.Graves.bury(peer, id, grave{why: session.CloseError{Code: session.CodeKicked, Text: "replaced by a later open"}})
	}
	return leases
}

// mayTake reports whether an open may end the session of the holder.
func mayTake(take session.Take, busy rule.Busy) bool {
	return take == session.TakeForce || take == session.TakeNormal && (busy == rule.BusyKick || busy == rule.BusyDefault)
}

func (d *Device) resume(l *lease, open session.Open) (*lease, bool, error) {
	l.attempt = open.Attempt
	stats := l.link.Resumes()
	d.log.Info("session resumed", "session", l.link.ID, "node", l.peer, "offset", open.Next, "resumed", stats)
	return l, true, nil
}

// begin starts a session. Nothing that the device sent before is delivered.
// The gate is held.
func (d *Device) begin(open session.Open, peer identity.NodeID) *lease {
	log := d.log.With("node", peer)
	l := &lease{peer: peer, kind: open.Kind, began: time.Now(), readOnly: open.ReadOnly, attempt: open.Attempt, writer: d.slot.NewWriter()}
	l.link = link.New(open.ID, d.config.Window, &portSink{device: d, lease: l}, log)
	l.link.Expect(open.Window) // the device may send before connect
	if open.Resume {
		// The consumer's session is not known here: it learns how much of
		// what this side had for it is lost, before anything else.
		g, known := d.config.Graves.of(peer, open.ID)
		if g.lost > 0 || !known {
			_ = l.link.Control(session.Control{Kind: session.KindGap, Lost: g.lost, Unknown: !known})
		}
	}
	d.mu.Lock()
	writers, readers := split(d.leases)
	alone := len(writers) == 0 && (len(readers) == 0 || !l.readOnly)
	l.link.SetMaxStale(d.want.Rule.MaxStale)
	d.mu.Unlock()
	if alone {
		d.prepare(open.Line, l.readOnly, log)
	}
	d.join(l)
	log.Info("session begins", "session", open.ID, "kind", open.Kind)
	d.tellUsers()
	return l
}

// prepare makes the port ready for the first session that may write to it, or for
// the first at all: with the wanted line settings, else with the device's own, and
// with DTR and RTS as at an open: the session before may have changed all of them.
func (d *Device) prepare(wanted string, readOnly bool, log *slog.Logger) {
	d.mu.Lock()
	settings := specOf(d.want).Line
	if settings.IsZero() {
		settings = line.Default()
	}
	d.mu.Unlock()
	if parsed, err := line.Parse(wanted); err == nil && !readOnly {
		settings = parsed
	}
	if now := d.lineInForce(); now != settings && (!now.IsZero() || wanted != "") {
		if err := d.setLine(settings); err != nil {
			log.Warn("line settings not applied", "line", settings, "err", err)
		}
	}
	if !readOnly {
		d.restore(log)
	}
	if port := d.slot.Current(); port != nil {
		if err := port.PurgeInput(); err != nil {
			log.Warn("input not purged", "err", err)
		}
		d.tap(capture.Event{Kind: capture.Purge, Bits: session.PurgeReceive}) // to who read along before
	}
}

// lineInForce returns the line settings of the port, or those that it will
// have once it is open again.
func (d *Device) lineInForce() line.Settings {
	port := d.slot.Current()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lineLocked(port)
}

// setLine changes the line settings now and for every port after this.
func (d *Device) setLine(s line.Settings) error {
	d.mu.Lock()
	d.set.line = s
	d.mu.Unlock()
	if port := d.slot.Current(); port != nil {
		return port.SetLine(s)
	}
	return nil
}

// end ends the session of l, or all sessions if l is nil; a lease that is over
// already stays so. Nothing of the session reaches the port once it returned.
func (d *Device) end(l *lease, why session.CloseError) {
	ended := d.part(l)
	if ended == nil {
		return
	}
	lost := ended.link.Close(why)
	ended.writer.Leave()
	if to, ok := d.slot.Current().(signaller); ok && ended.breaking.Load() {
		_ = to.SetBreak(line.DriveOff) // a port that fails is taken out
	}
	stats, _ := ended.link.View()
	attributes := []any{"session", ended.link.ID, "node", ended.peer, "reason", why.Code.Error(), "sent", stats.Sent, "received", stats.Received}
	g := grave{why: why}
	if lost > 0 && why.Code != session.CodeNormal {
		g.lost = uint64(lost)
		d.log.Warn("session ended with a gap", append(attributes, "lost", lost)...)
	} else {
		d.log.Info("session ended", attributes...)
	}
	d.config.Graves.bury(ended.peer, ended.link.ID, g)
	d.config.Changed()
	if l == nil {
		d.end(nil, why)
		return
	}
	d.tellUsers()
}
