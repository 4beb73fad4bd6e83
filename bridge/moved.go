package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// movedPatience bounds how long a session of a stick that moved gets to deliver
// what the stick sent here.
const movedPatience = 2 * time.Second

// Moved tells the Publisher that another owner has hardware that may have been
// here. If it was, and is unplugged here, its sessions end with
// session.CodeMoved, after the consumers got what it sent while it was here (2 s
// at most), and this node forgets it. It reports whether it was so; the rest
// happens in the background. Only a serial number tells that two sticks are one.
func (p *Publisher) Moved(h registry.Hardware, owner identity.NodeID) bool {
	if h.VID == "" || h.Serial == "" {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, c := range p.found.seen {
		if _, away := p.found.left[k]; !away || p.found.twins[key(c)] || !sameHardware(c.Hardware, h) {
			continue
		}
		for _, d := range p.devices {
			if d.isFor(k) {
				return d.moved(owner)
			}
		}
	}
	return false
}

func sameHardware(a, b registry.Hardware) bool {
	return strings.EqualFold(a.VID, b.VID) && strings.EqualFold(a.PID, b.PID) && a.Serial == b.Serial && a.Interface == b.Interface
}

func (d *device) isFor(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want.key == key && !d.want.present
}

// moved ends the sessions in the background, and then withdraws the device. Who
// wrote is told what the driver had taken and may not have sent.
func (d *device) moved(owner identity.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Code != 0 || d.leaving {
		return false
	}
	d.leaving = true
	k := d.want.key
	why := session.CloseError{Code: session.CodeMoved, Text: fmt.Sprintf("now at %s", d.publisher.config.NameOf(owner))}
	d.log.Info("device is plugged in elsewhere", "node", owner)
	leases := d.leases
	d.workers.Go(func() {
		doubt := d.slot.doubt()
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
		d.publisher.forget(k)
	})
	return true
}

// forget drops hardware that is not here.
func (p *Publisher) forget(k string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, away := p.found.left[k]; away {
		p.found.forget(k)
	}
	signal(p.rescan)
}

// Ignored returns the ttys that are left alone and why, for people: those that
// discovery says must not be opened, as the system's console, and that no rule
// names by its path.
func (p *Publisher) Ignored() []Candidate {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Candidate
	for _, k := range slices.Sorted(maps.Keys(p.found.seen)) {
		_, away := p.found.left[k]
		c := p.found.seen[k]
		if _, named := choose(&p.config, p.policy, c); c.Skip != "" && !named && !away {
			all = append(all, c)
		}
	}
	return all
}
