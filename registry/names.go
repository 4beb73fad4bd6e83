package registry

import (
	"cmp"
	"slices"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Status is one device as this registry sees it now. It is a value.
type Status struct {
	Device     Device // State is StateAway if the owner is not alive
	Owner      identity.NodeID
	OwnerName  string // empty if the owner is no member
	OwnerAlive bool
	UserName   string // of Device.User; empty if that is no member
	Claim      uint32
	Version    Version
	// Holder: the device has its name: a query for the name finds it.
	Holder bool
	// Conflict: another device has the name; this one is name@node.
	Conflict bool
}

// Devices returns all devices ordered by name, and within a name the holder
// first and then by claim and NodeID.
func (r *Registry) Devices(now time.Duration) []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Status, 0, r.entries)
	for name, owners := range r.names {
		holder := r.holder(now, name)
		for _, h := range owners {
			all = append(all, r.status(now, h, holder))
		}
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Device.Name, b.Device.Name), compareTrue(a.Holder, b.Holder), cmp.Compare(a.Claim, b.Claim), a.Owner.Compare(b.Owner))
	})
	return all
}

func compareTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func (r *Registry) status(now time.Duration, h, holder *held) Status {
	s := Status{
		Device: h.device.clone(), Owner: h.owner, OwnerName: r.nodeName(h.owner), OwnerAlive: r.isAlive(h.owner),
		Claim: h.claim, Version: h.version,
		Holder: h == holder, Conflict: holder != nil && h != holder && r.isEligible(now, h),
	}
	if !s.Device.User.IsZero() {
		s.UserName = r.nodeName(s.Device.User)
	}
	if !s.OwnerAlive {
		s.Device.State = StateAway
	}
	return s
}

func (r *Registry) nodeName(id identity.NodeID) string {
	if id == r.self {
		return r.cfg.NodeName
	}
	return r.members[id].Name
}

func (r *Registry) isAlive(id identity.NodeID) bool { return id == r.self || r.members[id].Alive }

// isEligible reports whether a device may have its name.
func (r *Registry) isEligible(now time.Duration, h *held) bool {
	return r.isAlive(h.owner) && (h.device.State != StateAway || now-h.awaySince <= r.cfg.Hold)
}

// holdsFast reports whether the device keeps its name against a better claim.
func (h *held) holdsFast() bool {
	return h.keeps && h.device.State == StateInUse && !h.awaited
}

// holder returns the device that has the name, nil if none. If two hold it
// fast (a healed partition), the better claim of the two has it.
func (r *Registry) holder(now time.Duration, name string) *held {
	var best *held
	for id, h := range r.names[name] {
		if !r.isEligible(now, h) {
			continue
		}
		switch {
		case best == nil, h.holdsFast() && !best.holdsFast():
			best = h
		case h.holdsFast() == best.holdsFast() && lessClaim(h.claim, id, best.claim, best.owner):
			best = h
		}
	}
	return best
}
