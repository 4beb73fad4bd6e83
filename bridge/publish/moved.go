package publish

import (
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// Moved tells the Publisher that another owner has hardware that may have been
// here. If it was, and is unplugged here, its sessions end with
// session.CodeMoved, after the consumers got what it sent while it was here (2 s
// at most), and this node forgets it. It reports whether it was so; the rest
// happens in the background. Only a serial number tells that two sticks are one.
func (p *Publisher) Moved(h registry.Hardware, owner identity.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.found.Away(h) {
		for _, d := range p.devices {
			if d.IsFor(k) {
				return d.Moved(owner, func() { p.forget(k) })
			}
		}
	}
	return false
}

// forget drops hardware that is not here.
func (p *Publisher) forget(k string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found.Drop(k)
	signal(p.rescan)
}

// Ignored returns the ttys that are left alone and why, for people: those that
// discovery says must not be opened, as the system's console, and that no rule
// names by its path.
func (p *Publisher) Ignored() []rule.Candidate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found.Ignored(p.policy)
}
