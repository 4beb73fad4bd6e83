package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/profile"
)

// want is a device as it should run.
type want struct {
	name      string
	key       string
	kind      string
	rule      Rule // with what the profile says where the rule says nothing
	profile   profile.Profile
	labels    map[string]string // the node's; not changed in place
	candidate Candidate
	present   bool
}

// inventory remembers the hardware of this machine across replugs.
//
// Which piece of hardware a tty is, is told by its key: by USB IDs and serial
// number; where there is none, or where two sticks have the same, by the port
// too. A stick without a serial number that vanishes at one port and appears at
// another is the same if no other of its make is or was here; if there was, only
// within hold, and only if it cannot be told for another.
type inventory struct {
	seen   map[string]Candidate // by key, as last discovered
	left   map[string]time.Time // by key, since when it is not there
	names  map[string]given     // by key, for the life of the process
	twins  map[string]bool      // keys that two sticks had at once: one serial number
	crowds map[string]bool      // makes of which two were here at once
	paths  []string             // that rules name and that were there
}

func newInventory() inventory {
	return inventory{
		seen: map[string]Candidate{}, left: map[string]time.Time{}, names: map[string]given{},
		twins: map[string]bool{}, crowds: map[string]bool{},
	}
}

// given is a name and what the rule said.
type given struct{ base, name string }

// wanted applies the policy to what is there and to what was there.
func (v *inventory) wanted(config *PublisherConfig, policy Policy, candidates []Candidate) map[string]want {
	candidates = slices.Clone(candidates)
	slices.SortFunc(candidates, func(a, b Candidate) int {
		return strings.Compare(a.Hardware.Port+"\x00"+a.Path, b.Hardware.Port+"\x00"+b.Path)
	})
	v.paths = v.paths[:0]
	for _, path := range rulePaths(policy.Rules) {
		if !config.Exists(path) {
			continue
		}
		v.paths = append(v.paths, path)
		named := Match{Path: path}
		if !slices.ContainsFunc(candidates, named.matches) {
			candidates = append(candidates, Candidate{Path: path})
		}
	}
	present := v.note(config, candidates)
	wanted := map[string]want{}
	for _, k := range slices.Sorted(maps.Keys(v.seen)) {
		c := v.seen[k]
		w, ok := choose(config, policy, c)
		if !ok {
			continue
		}
		name, err := v.nameFor(config.NodeName, k, w.rule, w.kind)
		if err != nil {
			config.Logger.Warn("device without a name is not published", "path", c.Path, "err", err)
			continue
		}
		w.name, w.key, w.candidate, w.present = name, k, c, present[k]
		wanted[name] = w
	}
	return wanted
}

// note takes over what is there now, and returns the keys of that.
func (v *inventory) note(config *PublisherConfig, candidates []Candidate) map[string]bool {
	keys, makes := map[string]int{}, map[string]int{}
	for _, c := range candidates {
		k := key(c)
		if keys[k]++; keys[k] == 2 && !v.twins[k] {
			v.twins[k] = true
			v.forget(k) // the first by port takes the name again
		}
		if makes[makeOf(c)]++; makes[makeOf(c)] == 2 {
			v.crowds[makeOf(c)] = true
		}
	}
	present := map[string]bool{}
	for _, c := range candidates {
		present[v.keyOf(c)] = true
	}
	now := time.Now()
	for k := range v.seen {
		if _, ok := v.left[k]; !ok && !present[k] {
			v.left[k] = now
		}
	}
	for _, c := range candidates {
		k := v.keyOf(c)
		if _, known := v.seen[k]; !known {
			v.adopt(config.Hold, c, k, candidates, present)
		}
		v.seen[k] = c
		delete(v.left, k)
	}
	return present
}

// keyOf tells sticks of one serial number apart by their port, once two were
// seen.
func (v *inventory) keyOf(c Candidate) string {
	k := key(c)
	if v.twins[k] {
		k += ":port:" + c.Hardware.Port
	}
	return k
}

// byPort reports whether only its port tells c from others of its make.
func (v *inventory) byPort(c Candidate) bool {
	return c.Hardware.VID != "" && (c.Hardware.Serial == "" || v.twins[key(c)])
}

// adopt gives the name of a stick that vanished to c, which is new here under
// key k, if it is the same stick at another port.
func (v *inventory) adopt(hold time.Duration, c Candidate, k string, candidates []Candidate, present map[string]bool) {
	if !v.byPort(c) {
		return
	}
	newcomers := 0
	for _, o := range candidates {
		if _, known := v.seen[v.keyOf(o)]; makeOf(o) == makeOf(c) && !known {
			newcomers++
		}
	}
	from := ""
	for old, o := range v.seen {
		if makeOf(o) != makeOf(c) || present[old] || v.crowds[makeOf(c)] && time.Since(v.left[old]) > hold {
			continue
		}
		if from != "" {
			return // it may be either
		}
		from = old
	}
	if from == "" || newcomers != 1 {
		return
	}
	v.names[k] = v.names[from]
	v.forget(from)
}

// forget drops the hardware of key k and its name.
func (v *inventory) forget(k string) {
	delete(v.seen, k)
	delete(v.left, k)
	delete(v.names, k)
}

// makeOf is what all sticks of one make have in common; of a stick with
// several ports, each port's.
func makeOf(c Candidate) string {
	h := c.Hardware
	return strings.Join([]string{h.VID, h.PID, h.Serial, h.Interface}, ":")
}

// nameFor returns the name of the hardware with this key. Once given it stays,
// unless the rule now says another: a second stick of the same rule gets "-2".
func (v *inventory) nameFor(node, k string, rule Rule, kind string) (string, error) {
	base, err := rule.expand(node, kind)
	if err != nil {
		return "", err
	}
	base = tidyName(base)
	had := v.names[k]
	if had.base == base {
		return had.name, nil
	}
	taken := map[string]bool{}
	for other, g := range v.names {
		if other != k {
			taken[g.name] = true
		}
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	v.names[k] = given{base, name}
	return name, nil
}

// tidyName replaces what the registry does not take in a name.
func tidyName(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			return c
		}
		return '-'
	}, name)
}

// rulePaths returns the paths of rules that name a tty by it alone.
func rulePaths(rules []Rule) []string {
	var paths []string
	for _, r := range rules {
		if r.Match.onlyPath() {
			paths = append(paths, r.Match.Path)
		}
	}
	return paths
}

// pathsChanged reports whether a tty that a rule names by its path came or
// went since the last look.
func (p *Publisher) pathsChanged() bool {
	p.mu.Lock()
	paths, were := rulePaths(p.policy.Rules), slices.Clone(p.found.paths)
	p.mu.Unlock()
	return slices.ContainsFunc(paths, func(path string) bool {
		return p.config.Exists(path) != slices.Contains(were, path)
	})
}

// choose tells whether and how c is published.
func choose(config *PublisherConfig, policy Policy, c Candidate) (want, bool) {
	at := slices.IndexFunc(policy.Rules, func(r Rule) bool {
		return r.Match.matches(c) && (c.Skip == "" || r.Match.Path != "")
	})
	var rule Rule
	if at >= 0 {
		rule = policy.Rules[at]
	}
	known, ok := profileFor(config, policy.Profiles, rule, c)
	kind, isKnown := config.Known(c)
	if ok && !known.Generic {
		kind, isKnown = known.Kind, true
	}
	switch {
	case rule.Kind != "":
		kind = rule.Kind
	case kind == "":
		kind = profile.KindSerial
	}
	w := want{kind: kind, rule: rule.over(known, config.Hold), profile: known, labels: policy.Labels}
	return w, at >= 0 || c.Skip == "" && (policy.Publish == PublishAll || policy.Publish == PublishKnown && isKnown)
}

// profileFor returns what is known about c under a rule, which may name
// another profile or none.
func profileFor(config *PublisherConfig, profiles []profile.Profile, rule Rule, c Candidate) (profile.Profile, bool) {
	switch rule.Profile {
	case ProfileNone:
		return profile.Profile{}, false
	case "":
		return profile.Find(profiles, profile.Device{
			VID: c.Hardware.VID, PID: c.Hardware.PID, Interface: c.Hardware.Interface,
			Product: c.Product, Manufacturer: c.Manufacturer, Driver: c.Driver,
		})
	}
	at := slices.IndexFunc(profiles, func(p profile.Profile) bool { return p.Name == rule.Profile })
	if at < 0 {
		config.Logger.Warn("rule names a profile that is not known", "profile", rule.Profile)
		return profile.Profile{}, false
	}
	return profiles[at], true
}
