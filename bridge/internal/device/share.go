package device

import (
	"slices"
	"strings"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
)

// split sorts leases into those that may write and those that read along.
func split(leases []*lease) (writers, readers []*lease) {
	for _, l := range leases {
		if l.readOnly {
			readers = append(readers, l)
		} else {
			writers = append(writers, l)
		}
	}
	return writers, readers
}

// hand gives what the device sent to leases, those who used it then. The only
// writer of a device that is not shared makes the device wait when it does not
// read: back pressure before loss. Any other that does not read makes nobody wait;
// what does not fit into its window is a counted gap for it.
func (d *Device) hand(p []byte, leases []*lease) {
	d.mu.Lock()
	shared := d.want.Rule.Busy == rule.BusyShare
	d.mu.Unlock()
	for _, l := range leases {
		if l.isMonitor() {
			l.record(capture.Event{Kind: capture.FromDevice, Data: p})
		} else if l.readOnly || shared {
			d.offer(l, p)
		} else {
			_, _ = l.link.Send(p) // a session that just ended takes less
		}
	}
}

// offer gives l what fits, and what it missed before as a gap. Only the reader
// of the port calls it.
func (d *Device) offer(l *lease, p []byte) {
	if l.missed > 0 {
		// Not byte by byte: one gap, then a piece worth having.
		if l.link.Room() < d.config.Window/4 ||
			!l.link.OfferControl(session.Control{Kind: session.KindGap, Lost: l.missed}) {
			l.missed += uint64(len(p))
			return
		}
		d.countLost(l, l.missed)
		d.log.Warn("consumer does not read, bytes of the device were dropped for it", "session", l.link.ID, "node", l.peer, "lost", l.missed)
		l.missed = 0
	}
	l.missed += uint64(len(p) - l.link.Offer(p))
}

func (d *Device) countLost(l *lease, n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.gaps++
	l.lost += n
}

// tellReopened tells those who had the device when its port was lost what may
// be missing: of what it sent nobody knows, of what was sent to it up to so
// many bytes. Only the reader of the port calls it, before it reads.
func (d *Device) tellReopened() {
	doubt := d.slot.Doubt()
	d.mu.Lock()
	opens, leases, shared := d.opens, d.leases, d.want.Rule.Busy == rule.BusyShare
	d.mu.Unlock()
	for _, l := range leases {
		if l.opens == opens {
			continue
		}
		l.opens = opens
		controls := []session.Control{{Kind: session.KindGap, Unknown: true}}
		if doubt > 0 && !l.readOnly {
			controls = append(controls, session.Control{Kind: session.KindLoss, Lost: doubt})
		}
		d.countLost(l, doubt)
		controls = append(controls, session.Control{Kind: session.KindPort, Bits: session.PortOpen})
		for _, c := range controls {
			if l.readOnly || shared {
				l.link.OfferControl(c)
			} else {
				_ = l.link.Control(c) // a session that just ended takes none
			}
		}
		d.log.Warn("device is back, its session goes on", "session", l.link.ID, "node", l.peer, "lost", doubt, "unknown", true)
	}
}

// tellUsers tells all who use the device who else does, if anybody does or did.
func (d *Device) tellUsers() {
	d.telling.Lock()
	defer d.telling.Unlock()
	d.mu.Lock()
	leases := d.leases
	d.mu.Unlock()
	for _, l := range leases {
		var others []string
		for _, o := range leases {
			if o == l {
				continue
			}
			name := d.config.NameOf(o.peer)
			if o.readOnly {
				name += " (reads along)"
			}
			others = append(others, name)
		}
		text := clip(strings.Join(others, ", "))
		if l.others != text {
			l.others = text
			l.link.OfferControl(session.Control{Kind: session.KindUsers, Text: text})
		}
	}
}

// join adds l to those who use the device. The gate is held.
func (d *Device) join(l *lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.opens = d.opens
	d.setLeasesLocked(append(slices.Clone(d.leases), l))
}

// part removes l from those who use the device, or the first if l is nil, and
// returns it; nil if it is not among them.
func (d *Device) part(l *lease) *lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.IndexFunc(d.leases, func(o *lease) bool { return l == nil || o == l })
	if at < 0 {
		return nil
	}
	l = d.leases[at]
	if l.over != nil {
		close(l.over)
		l.over = nil
	}
	d.setLeasesLocked(slices.Delete(slices.Clone(d.leases), at, at+1))
	return l
}

// setLeasesLocked replaces the leases and wakes who waits for some to come or go.
// mu is held.
func (d *Device) setLeasesLocked(leases []*lease) {
	d.leases = leases
	d.users.Store(&leases)
	close(d.changed)
	d.changed = make(chan struct{})
}
