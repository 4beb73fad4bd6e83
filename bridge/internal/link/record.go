package link

import "github.com/serialspan/serialspan/bridge/capture"

// tapped is what a link that carries records could not take: bytes by their
// direction. The first record that fits again follows a gap for them.
type tapped struct {
	buf          []byte
	lost         [3]uint64 // by capture.FromDevice, capture.ToDevice
	otherMissing bool      // an event that is no data was dropped
}

// Record takes a record whole, or counts what it had.
func (l *Link) Record(e capture.Event) {
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
	l.stats.Sent += uint64(l.end.Write(l.now(), t.buf))
	l.kickLocked()
}
