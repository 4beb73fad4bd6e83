package inventory

import (
	"slices"

	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/rule"
)

// choose tells whether and how c is published.
func (v *Inventory) choose(policy rule.Policy, c rule.Candidate) (Want, bool) {
	at := slices.IndexFunc(policy.Rules, func(r rule.Rule) bool {
		return r.Match.Matches(c) && (c.Skip == "" || r.Match.Path != "")
	})
	var chosen rule.Rule
	if at >= 0 {
		chosen = policy.Rules[at]
	}
	known, ok := v.profileFor(policy.Profiles, chosen, c)
	kind, isKnown := v.config.Known(c)
	if ok && !known.Generic {
		kind, isKnown = known.Kind, true
	}
	switch {
	case chosen.Kind != "":
		kind = chosen.Kind
	case kind == "":
		kind = profile.KindSerial
	}
	w := Want{Kind: kind, Rule: chosen.Over(known, v.config.Hold), Profile: known, Labels: policy.Labels}
	return w, at >= 0 || c.Skip == "" && (policy.Publish == rule.PublishAll || policy.Publish == rule.PublishKnown && isKnown)
}

// profileFor returns what is known about c under a rule, which may name
// another profile or none.
func (v *Inventory) profileFor(profiles []profile.Profile, chosen rule.Rule, c rule.Candidate) (profile.Profile, bool) {
	switch chosen.Profile {
	case rule.ProfileNone:
		return profile.Profile{}, false
	case "":
		return profile.Find(profiles, profile.Device{
			VID: c.Hardware.VID, PID: c.Hardware.PID, Interface: c.Hardware.Interface,
			Product: c.Product, Manufacturer: c.Manufacturer, Driver: c.Driver,
		})
	}
	at := slices.IndexFunc(profiles, func(p profile.Profile) bool { return p.Name == chosen.Profile })
	if at < 0 {
		v.config.Logger.Warn("rule names a profile that is not known", "profile", chosen.Profile)
		return profile.Profile{}, false
	}
	return profiles[at], true
}
