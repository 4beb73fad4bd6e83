package device

import (
	"slices"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Those who wait for a device that is in use come to it in the order in which
// they asked.
const (
	// waitPatience is how long an OPEN waits before it is told that the device
	// is busy: less than a consumer's patience with an attempt.
	waitPatience = 3 * time.Second
	// ticketLife is how long who was told so keeps its place: a round of
	// waiting and the longest pause of a consumer's between attempts.
	ticketLife = waitPatience + 2*link.RedialMost
)

// ticket is a place in the queue for a device.
type ticket struct {
	id   session.ID
	peer identity.NodeID
	seen time.Time // when it last asked
}

// enqueue gives or keeps a place in the queue; false: this device has none.
func (d *Device) enqueue(id session.ID, peer identity.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want.Rule.Busy != rule.BusyWait {
		return false
	}
	at := slices.IndexFunc(d.queue, func(t ticket) bool { return t.id == id })
	if at < 0 {
		d.queue = append(d.queue, ticket{id: id, peer: peer})
		at = len(d.queue) - 1
	}
	d.queue[at].seen = time.Now()
	return true
}

// before returns the first in the queue if that is not id, nil otherwise.
func (d *Device) before(id session.ID) *ticket {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = slices.DeleteFunc(d.queue, func(t ticket) bool { return time.Since(t.seen) > ticketLife })
	if d.want.Rule.Busy != rule.BusyWait || len(d.queue) == 0 || d.queue[0].id == id {
		return nil
	}
	first := d.queue[0]
	return &first
}

// leaveQueue gives the place of id back.
func (d *Device) leaveQueue(id session.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = slices.DeleteFunc(d.queue, func(t ticket) bool { return t.id == id })
}
