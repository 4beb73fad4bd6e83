package device

import (
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
)

func (l *lease) isMonitor() bool { return l.readOnly && l.kind == capture.SessionKind }

// tap tells all who monitor the device of an event. It never blocks.
func (d *Device) tap(e capture.Event) {
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
func (d *Device) written(p []byte) {
	if len(p) > 0 {
		d.tap(capture.Event{Kind: capture.ToDevice, Data: p})
	}
}

// record sends an event to who monitors.
func (l *lease) record(e capture.Event) {
	e.At = time.Since(l.began)
	l.link.Record(e)
}
