package pathwatch

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// event is struct inotify_event of watch 1.
func event(mask uint32, name string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 1)
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	return append(b, name...)
}

// FuzzEvents: whatever the kernel says is judged, and an event that matters is
// found among others.
func FuzzEvents(f *testing.F) {
	w := &watch{steps: map[int]map[string]bool{1: {"ttyUSB0": true}}}
	matters := event(unix.IN_CREATE, "ttyUSB0\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	f.Add(matters)
	f.Add(event(unix.IN_DELETE, "ttyUSB1\x00"))
	f.Add(event(unix.IN_Q_OVERFLOW, ""))
	f.Add(event(unix.IN_CREATE, "cut off")[:12])
	f.Fuzz(func(t *testing.T, events []byte) {
		_ = w.matters(events)
		other := event(unix.IN_CREATE, "other\x00\x00\x00")
		if !w.matters(append(other, matters...)) || w.matters(other) {
			t.Error("an event is told from another wrongly")
		}
		if !w.matters(append(event(unix.IN_MODIFY, string(events)), matters...)) {
			t.Errorf("an event after one with the name %q does not matter", events)
		}
	})
}
