// Package profiles holds the profiles that come with SerialSpan as YAML files,
// and reads those and a user's own into the values of bridge/profile.
//
// A file has two keys, each optional:
//
//	profiles:
//	  - name: my-meter                  # one that is known replaces it
//	    title: Electricity meter
//	    disabled: false                 # true turns a known profile off; needs no other key
//	    match:                          # any of these; each field that is given must fit
//	      - {vid: "10c4", pid: "ea60", product: "meter", manufacturer: "", interface: "00", driver: cp210x}
//	    kind: meter
//	    generic: false                  # true: a chip, not a device; kind serial
//	    line: 9600e71
//	    dtr: on                         # on | off | unchanged
//	    rts: unchanged
//	    pulse: what it does when Linux raises DTR and RTS at an open
//	    max_stale: 1500ms
//	    busy: kick                      # kick | refuse | wait | share
//	    hold: 15s
//	    recipes: {run: my-reset}        # name within the profile: name below, or one that is known
//	    sources: ["where the facts come from"]
//	    notes: for people
//	recipes:
//	  my-reset:
//	    sources: ["…"]
//	    steps:
//	      - {dtr: off, rts: on, break: off, baud: 1200, wait: 100ms}
//
// An unknown key is an error that names file and line. TABLE.md shows all
// profiles that come along; its test writes it with -args -update.
//
// The package is values: it opens no device and starts no goroutine.
package profiles

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serialspan/serialspan/bridge/profile"
)

//go:embed *.yaml
var files embed.FS

// maxFile bounds a file, in bytes.
const maxFile = 256 << 10

// Problem is one mistake in a file. Parse returns all of them at once, joined
// by errors.Join; errors.As finds the first.
type Problem struct {
	Source string // the file
	Line   int    // from 1; 0: the file as a whole
	Text   string // what is wrong and what to write instead
}

// Error returns one line: source:line: text.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.Source + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.Source, p.Line, p.Text)
}

// Embedded returns the profiles that come with SerialSpan, in the order of
// their files' names. It reads and checks them at each call.
func Embedded() ([]profile.Profile, error) {
	all, known, err := embedded()
	if err != nil {
		return nil, err
	}
	var out []profile.Profile
	for _, f := range all {
		profiles, err := f.profiles(known)
		if err != nil {
			return nil, err
		}
		out = append(out, profiles...)
	}
	return out, profile.CheckSet(out)
}

// Parse reads the content of a user's file, called name in errors. Its
// profiles may use recipes that come with SerialSpan; profile.Overlay lays
// them over the embedded ones.
func Parse(name string, data []byte) ([]profile.Profile, error) {
	f, err := decode(name, data)
	if err != nil {
		return nil, err
	}
	known, err := f.recipes()
	if err != nil {
		return nil, err
	}
	if f.borrows() {
		_, all, err := embedded()
		if err != nil {
			return nil, err
		}
		maps.Copy(all, known)
		known = all
	}
	profiles, err := f.profiles(known)
	if err != nil {
		return nil, err
	}
	if err := profile.CheckSet(profiles); err != nil {
		return nil, &Problem{Source: name, Text: err.Error()}
	}
	return profiles, nil
}

// embedded reads all files that come along, and the recipes of all of them.
func embedded() ([]file, map[string]profile.Recipe, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, nil, fmt.Errorf("read profiles: %w", err)
	}
	var all []file
	known := map[string]profile.Recipe{}
	for _, entry := range entries {
		data, err := files.ReadFile(entry.Name())
		if err != nil {
			return nil, nil, fmt.Errorf("read profiles: %w", err)
		}
		f, err := decode(entry.Name(), data)
		if err != nil {
			return nil, nil, err
		}
		recipes, err := f.recipes()
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(known, recipes)
		all = append(all, f)
	}
	return all, known, nil
}

// sortedNames returns the keys of a map, whose order in the file is lost.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// joined is errors.Join of problems.
func joined(problems []*Problem) error {
	var all []error
	for _, p := range problems {
		all = append(all, p)
	}
	return errors.Join(all...)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
