package bridge

import (
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
)

// monitorKind is the kind of a session that monitors: it is read-only, and its
// data are records of package capture.
const monitorKind = "monitor"

func (l *lease) isMonitor() bool { return l.readOnly && l.kind == monitorKind }

// tap tells all who monitor the device of an event. It never blocks.
func (d *device) tap(e capture.Event) {
	d.mu.Lock()
	leases := d.leases
	d.mu.Unlock()
	for _, l := range leases {
		if l.isMonitor() {
			l.record(e)
		}
	}
}

// written is tap for bytes that the driver has taken.
func (d *device) written(p []byte) {
	if len(p) > 0 {
		d.tap(capture.Event{Kind: capture.ToDevice, Data: p})
	}
}

// record sends an event to who monitors.
func (l *lease) record(e capture.Event) {
	e.At = time.Since(l.began)
	l.link.record(e)
}

// tapped is what a link that carries records could not take: bytes by their
// direction. The first record that fits again follows a gap for them.
type tapped struct {
	buf          []byte
	lost         [3]uint64 // by capture.FromDevice, capture.ToDevice
	otherMissing bool      // an event that is no data was dropped
}

// record takes a record whole, or counts what it had.
func (l *link) record(e capture.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	t := &l.tap
	t.buf = t.buf[:0]
	for of := capture.FromDevice; of <= capture.ToDevice; of++ {
		if t.lost[of] > 0 || t.otherMissing {
			t.buf = capture.Append(t.buf, capture.Event{At: e.At, Kind: capture.Gap, Of: of, Lost: t.lost[of], Unknown: t.otherMissing})
		}
	}
	t.buf = capture.Append(t.buf, e)
	if l.end.Room() < len(t.buf) {
		if e.Kind <= capture.ToDevice {
			t.lost[e.Kind] += uint64(len(e.Data))
		} else {
			t.otherMissing = true
		}
		return
	}
	t.lost, t.otherMissing = [3]uint64{}, false
	l.stats.sent += uint64(l.end.Write(l.now(), t.buf))
	l.kickLocked()
}
