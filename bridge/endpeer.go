package bridge

import (
	"maps"
	"slices"
	"sync"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// EndPeer ends all sessions of a consumer, monitors included, and tells it why.
// What it sent and the devices have not taken yet is lost and counted. It
// returns when nothing of them reaches a device any more.
func (p *Publisher) EndPeer(peer identity.NodeID, why session.CloseError) {
	p.mu.Lock()
	devices := make([]*device, 0, len(p.devices))
	for _, name := range slices.Sorted(maps.Keys(p.devices)) {
		devices = append(devices, p.devices[name])
	}
	p.mu.Unlock()
	var ending sync.WaitGroup
	for _, d := range devices {
		for _, l := range d.leasesOf(peer) {
			ending.Go(func() { d.end(l, why) })
		}
	}
	ending.Wait()
}

func (d *device) leasesOf(peer identity.NodeID) (its []*lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if l.peer == peer {
			its = append(its, l)
		}
	}
	return its
}
