// Package inventory decides what a node publishes: it knows the hardware of this
// machine across replugs, applies the policy to it, and gives names that stay.
// What it returns, a Want for each device, package device carries out.
package inventory

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/registry"
)

// Want is a device as it should run.
type Want struct {
	Name      string    // of the device, without its node
	Key       string    // tells the hardware from other hardware across replugs
	Kind      string    // "zwave", "serial", ...
	Rule      rule.Rule // with what the profile says where the rule says nothing
	Profile   profile.Profile
	Labels    map[string]string // the node's; not changed in place
	Candidate rule.Candidate
	Present   bool // the hardware is here
}

// Openable reports whether there is something that may be opened.
func (w Want) Openable() bool { return w.Present && w.Candidate.Skip == "" }

// Config says what an Inventory needs beyond a policy; no field may be left out.
type Config struct {
	NodeName string // .Node in names
	// Exists tells whether the path of a rule is a tty now.
	Exists func(path string) bool
	// Known tells the kind of a device that no rule matches.
	Known func(rule.Candidate) (kind string, ok bool)
	Hold  time.Duration // where neither rule nor profile says one
	// Logger. Required.
	Logger *slog.Logger
}

// Inventory remembers the hardware of this machine across replugs. It is not safe
// for concurrent use.
//
// Which piece of hardware a tty is, is told by its key: by USB IDs and serial
// number; where there is none, or where two sticks have the same, by the port
// too. A stick without a serial number that vanishes at one port and appears at
// another is the same if no other of its make is or was here; if there was, only
// within hold, and only if it cannot be told for another.
type Inventory struct {
	config Config
	seen   map[string]rule.Candidate // by key, as last discovered
	left   map[string]time.Time      // by key, since when it is not there
	names  map[string]given          // by key, for the life of the process
	twins  map[string]bool           // keys that two sticks had at once: one serial number
	crowds map[string]bool           // makes of which two were here at once
	paths  []string                  // that rules name and that were there
}

// New returns one that has seen nothing yet.
func New(config Config) *Inventory {
	return &Inventory{
		config: config,
		seen:   map[string]rule.Candidate{}, left: map[string]time.Time{}, names: map[string]given{},
		twins: map[string]bool{}, crowds: map[string]bool{},
	}
}

// given is a name and what the rule said.
type given struct{ base, name string }

// Wanted applies the policy to what is there and to what was there.
func (v *Inventory) Wanted(policy rule.Policy, candidates []rule.Candidate) map[string]Want {
	candidates = slices.Clone(candidates)
	slices.SortFunc(candidates, func(a, b rule.Candidate) int {
		return strings.Compare(a.Hardware.Port+"\x00"+a.Path, b.Hardware.Port+"\x00"+b.Path)
	})
	v.paths = v.paths[:0]
	for _, path := range RulePaths(policy.Rules) {
		if !v.config.Exists(path) {
			continue
		}
		v.paths = append(v.paths, path)
		named := rule.Match{Path: path}
		if !slices.ContainsFunc(candidates, named.Matches) {
			candidates = append(candidates, rule.Candidate{Path: path})
		}
	}
	present := v.note(candidates)
	wanted := map[string]Want{}
	for _, k := range slices.Sorted(maps.Keys(v.seen)) {
		c := v.seen[k]
		w, ok := v.choose(policy, c)
		if !ok {
			continue
		}
		name, err := v.nameFor(k, w.Rule, w.Kind)
		if err != nil {
			v.config.Logger.Warn("device without a name is not published", "path", c.Path, "err", err)
			continue
		}
		w.Name, w.Key, w.Candidate, w.Present = name, k, c, present[k]
		wanted[name] = w
	}
	return wanted
}

// note takes over what is there now, and returns the keys of that.
func (v *Inventory) note(candidates []rule.Candidate) map[string]bool {
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
			v.adopt(c, k, candidates, present)
		}
		v.seen[k] = c
		delete(v.left, k)
	}
	return present
}

// keyOf tells sticks of one serial number apart by their port, once two were
// seen.
func (v *Inventory) keyOf(c rule.Candidate) string {
	k := key(c)
	if v.twins[k] {
		k += ":port:" + c.Hardware.Port
	}
	return k
}

// byPort reports whether only its port tells c from others of its make.
func (v *Inventory) byPort(c rule.Candidate) bool {
	return c.Hardware.VID != "" && (c.Hardware.Serial == "" || v.twins[key(c)])
}

// adopt gives the name of a stick that vanished to c, which is new here under
// key k, if it is the same stick at another port.
func (v *Inventory) adopt(c rule.Candidate, k string, candidates []rule.Candidate, present map[string]bool) {
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
		if makeOf(o) != makeOf(c) || present[old] || v.crowds[makeOf(c)] && time.Since(v.left[old]) > v.config.Hold {
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
func (v *Inventory) forget(k string) {
	delete(v.seen, k)
	delete(v.left, k)
	delete(v.names, k)
}

// makeOf is what all sticks of one make have in common; of a stick with
// several ports, each port's.
func makeOf(c rule.Candidate) string {
	h := c.Hardware
	return strings.Join([]string{h.VID, h.PID, h.Serial, h.Interface}, ":")
}

// nameFor returns the name of the hardware with this key. Once given it stays,
// unless the rule now says another: a second stick of the same rule gets "-2".
func (v *Inventory) nameFor(k string, chosen rule.Rule, kind string) (string, error) {
	base, err := chosen.Expand(v.config.NodeName, kind)
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

// RulePaths returns the paths of rules that name a tty by it alone.
func RulePaths(rules []rule.Rule) []string {
	var paths []string
	for _, r := range rules {
		if r.Match.OnlyPath() {
			paths = append(paths, r.Match.Path)
		}
	}
	return paths
}

// PathsChanged reports whether a tty that one of rules names by its path came or
// went since the last look.
func (v *Inventory) PathsChanged(rules []rule.Rule) bool {
	return slices.ContainsFunc(RulePaths(rules), func(path string) bool {
		return v.config.Exists(path) != slices.Contains(v.paths, path)
	})
}

// key tells one piece of hardware from another across replugs: by serial
// number where there is one, else by port path, else by path.
func key(c rule.Candidate) string {
	h := c.Hardware
	switch {
	case h.VID != "" && h.Serial != "":
		return strings.Join([]string{"usb", h.VID, h.PID, h.Serial, h.Interface}, ":")
	case h.VID != "":
		return strings.Join([]string{"usb", h.VID, h.PID, "port", h.Port, h.Interface}, ":")
	}
	return "path:" + c.Path
}

// Away returns the keys of hardware that was here and is not, and that h is, in
// whatever place. Only a serial number tells that two sticks are one.
func (v *Inventory) Away(h registry.Hardware) (keys []string) {
	if h.VID == "" || h.Serial == "" {
		return nil
	}
	for k, c := range v.seen {
		if _, away := v.left[k]; away && !v.twins[key(c)] && sameHardware(c.Hardware, h) {
			keys = append(keys, k)
		}
	}
	return keys
}

func sameHardware(a, b registry.Hardware) bool {
	return strings.EqualFold(a.VID, b.VID) && strings.EqualFold(a.PID, b.PID) && a.Serial == b.Serial && a.Interface == b.Interface
}

// Drop forgets hardware that is not here, and its name.
func (v *Inventory) Drop(k string) {
	if _, away := v.left[k]; away {
		v.forget(k)
	}
}

// Ignored returns the ttys that are here and left alone, and why: those that
// discovery says must not be opened and that no rule names by its path.
func (v *Inventory) Ignored(policy rule.Policy) []rule.Candidate {
	var all []rule.Candidate
	for _, k := range slices.Sorted(maps.Keys(v.seen)) {
		_, away := v.left[k]
		c := v.seen[k]
		if _, named := v.choose(policy, c); c.Skip != "" && !named && !away {
			all = append(all, c)
		}
	}
	return all
}
