package device

import (
	"fmt"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// movedPatience bounds how long a session of a stick that moved gets to deliver
// what the stick sent here.
const movedPatience = 2 * time.Second

// IsFor reports whether the device is the hardware of this key, and that is not
// here.
func (d *Device) IsFor(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want.Key == key && !d.want.Present
}

// Moved ends the sessions in the background, since the hardware is with another
// owner, and then calls gone: the device is to be withdrawn. It reports false if
// that is under way already. Who wrote is told what the driver had taken and may
// not have sent.
func (d *Device) Moved(owner identity.NodeID, gone func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Code != 0 || d.leaving {
		return false
	}
	d.leaving = true
	why := session.CloseError{Code: session.CodeMoved, Text: fmt.Sprintf("now at %s", d.config.NameOf(owner))}
	d.log.Info("device is plugged in elsewhere", "node", owner)
	leases := d.leases
	d.workers.Go(func() {
		doubt := d.slot.Doubt()
		var ending sync.WaitGroup
		for _, l := range leases {
			ending.Go(func() {
				patience := time.AfterFunc(movedPatience, l.link.GiveUp)
				if doubt > 0 && !l.readOnly {
					d.countLost(l, doubt)
					l.link.OfferControl(session.Control{Kind: session.KindLoss, Lost: doubt})
				}
				l.link.Settled()
				patience.Stop()
				d.end(l, why)
			})
		}
		ending.Wait()
		gone()
	})
	return true
}
