package device

import (
	"fmt"
	"maps"
	"slices"

	"github.com/serialspan/serialspan/bridge/internal/slot"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/registry"
)

// View is what the registry shall show.
func (d *Device) View() registry.Device {
	port := d.slot.Current()
	d.mu.Lock()
	defer d.mu.Unlock()
	v := registry.Device{
		Name: d.name, Kind: d.want.Kind, Profile: d.want.Profile.Name, Hardware: hardwareOf(d.want.Candidate),
		Labels: maps.Clone(d.want.Labels), Line: d.lineLocked(port).String(),
		Capabilities: slices.Clone(d.can),
	}
	held := ""
	writers, readers := split(d.leases)
	if len(writers) > 0 {
		held = ", its session is held"
	}
	switch {
	case d.want.Candidate.Skip != "":
		v.State, v.Detail = registry.StateFault, "left alone: "+d.want.Candidate.Skip
	case !d.want.Present:
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
func (d *Device) lineLocked(port slot.Port) line.Settings {
	if port != nil {
		return port.Line()
	}
	return d.set.over(specOf(d.want)).Line
}

// hardwareOf is what the registry says of c.
func hardwareOf(c rule.Candidate) registry.Hardware {
	if c.Hardware == (registry.Hardware{}) {
		return registry.Hardware{Path: c.Path}
	}
	return c.Hardware
}
