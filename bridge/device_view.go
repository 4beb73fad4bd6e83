package bridge

import (
	"fmt"
	"maps"
	"slices"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/registry"
)

// view is what the registry shall show.
func (d *device) view() registry.Device {
	port := d.slot.current()
	d.mu.Lock()
	defer d.mu.Unlock()
	v := registry.Device{
		Name: d.name, Kind: d.want.kind, Profile: d.want.profile.Name, Hardware: hardwareOf(d.want.candidate),
		Labels: maps.Clone(d.want.labels), Line: d.lineLocked(port).String(),
		Capabilities: slices.Clone(d.can),
	}
	held := ""
	writers, readers := split(d.leases)
	if len(writers) > 0 {
		held = ", its session is held"
	}
	switch {
	case d.want.candidate.Skip != "":
		v.State, v.Detail = registry.StateFault, "left alone: "+d.want.candidate.Skip
	case !d.want.present:
		v.State, v.Detail = registry.StateAway, "unplugged"+held
	case port == nil && d.fault == "":
		v.State, v.Detail = registry.StateAway, "being opened"
	case port == nil && d.away:
		v.State, v.Detail = registry.StateAway, d.fault+held
	case port == nil:
		v.State, v.Detail = registry.StateFault, d.fault
	case len(writers) > 0:
		v.State, v.User = registry.StateInUse, writers[0].peer
		if len(writers) > 1 {
			v.Detail = fmt.Sprintf("shared by %d", len(writers))
		}
	}
	if len(readers) > 0 && v.Detail == "" {
		v.Detail = fmt.Sprintf("read along by %d", len(readers))
	}
	return v
}

// lineLocked returns the line settings in force, or those to come. mu is held.
func (d *device) lineLocked(port Port) line.Settings {
	if port != nil {
		return port.Line()
	}
	return d.set.over(d.want.spec()).Line
}
