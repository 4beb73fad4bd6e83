package rule

import (
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
)

// busyOf are the busy policies of profiles.
func busyOf(b profile.Busy) Busy {
	switch b {
	case profile.BusyRefuse:
		return BusyRefuse
	case profile.BusyWait:
		return BusyWait
	case profile.BusyShare:
		return BusyShare
	}
	return BusyKick
}

// Over returns the rule with what the profile says where it says nothing
// itself, and the default hold where neither does.
func (r Rule) Over(p profile.Profile, hold time.Duration) Rule {
	if r.Line.IsZero() {
		r.Line = p.Line
	}
	if r.DTR == line.DriveUnchanged {
		r.DTR = p.DTR
	}
	if r.RTS == line.DriveUnchanged {
		r.RTS = p.RTS
	}
	if r.Busy == BusyDefault {
		r.Busy = busyOf(p.Busy)
	}
	if r.Hold <= 0 {
		r.Hold = p.Hold
	}
	if r.Hold <= 0 {
		r.Hold = hold
	}
	switch {
	case r.MaxStale < 0:
		r.MaxStale = 0
	case r.MaxStale == 0:
		r.MaxStale = p.MaxStale
	}
	return r
}
