package publish

import (
	"maps"
	"slices"
	"sync"

	"github.com/serialspan/serialspan/bridge/internal/device"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// EndPeer ends all sessions of a consumer, monitors included, and tells it why.
// What it sent and the devices have not taken yet is lost and counted. It
// returns when nothing of them reaches a device any more.
func (p *Publisher) EndPeer(peer identity.NodeID, why session.CloseError) {
	p.mu.Lock()
	devices := make([]*device.Device, 0, len(p.devices))
	for _, name := range slices.Sorted(maps.Keys(p.devices)) {
		devices = append(devices, p.devices[name])
	}
	p.mu.Unlock()
	var ending sync.WaitGroup
	for _, d := range devices {
		ending.Go(func() { d.EndPeer(peer, why) })
	}
	ending.Wait()
}
