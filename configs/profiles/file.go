package profiles

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
)

// text is a scalar as it is written, so that vid: 0658 is no number, with its
// line.
type text struct {
	value string
	line  int
}

// UnmarshalYAML takes any scalar.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{"line " + strconv.Itoa(n.Line) + ": want one word or text here"}}
	}
	if n.Tag != "!!null" {
		t.value = n.Value
	}
	t.line = n.Line
	return nil
}

// file is the schema of a file; package comment.
type file struct {
	source   string
	Profiles []entry                `yaml:"profiles"`
	Recipes  map[string]recipeEntry `yaml:"recipes"`
}

type entry struct {
	Name     text            `yaml:"name"`
	Title    text            `yaml:"title"`
	Disabled bool            `yaml:"disabled"`
	Match    []matchEntry    `yaml:"match"`
	Kind     text            `yaml:"kind"`
	Generic  bool            `yaml:"generic"`
	Line     text            `yaml:"line"`
	DTR      text            `yaml:"dtr"`
	RTS      text            `yaml:"rts"`
	Pulse    text            `yaml:"pulse"`
	MaxStale text            `yaml:"max_stale"`
	Busy     text            `yaml:"busy"`
	Hold     text            `yaml:"hold"`
	Recipes  map[string]text `yaml:"recipes"`
	Sources  []text          `yaml:"sources"`
	Notes    text            `yaml:"notes"`
}

type matchEntry struct {
	VID          text `yaml:"vid"`
	PID          text `yaml:"pid"`
	Product      text `yaml:"product"`
	Manufacturer text `yaml:"manufacturer"`
	Interface    text `yaml:"interface"`
	Driver       text `yaml:"driver"`
}

type recipeEntry struct {
	Sources []text      `yaml:"sources"`
	Steps   []stepEntry `yaml:"steps"`
}

type stepEntry struct {
	DTR   text `yaml:"dtr"`
	RTS   text `yaml:"rts"`
	Break text `yaml:"break"`
	Baud  text `yaml:"baud"`
	Wait  text `yaml:"wait"`
}

// How the YAML library says where something is wrong, and that it knows no
// such key.
var (
	yamlLine   = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownKey = regexp.MustCompile(`^field (.*) not found in type `)
)

// decode reads one YAML document strictly.
func decode(source string, data []byte) (file, error) {
	f := file{source: source}
	if len(data) > maxFile {
		return f, &Problem{Source: source, Text: "longer than " + strconv.Itoa(maxFile) + " bytes"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	err := decoder.Decode(&f)
	if errors.Is(err, io.EOF) {
		return f, nil
	}
	if err == nil {
		var second yaml.Node
		if err = decoder.Decode(&second); errors.Is(err, io.EOF) {
			return f, nil
		}
		if err == nil {
			return f, &Problem{Source: source, Line: second.Line, Text: "a second document begins here; keep one"}
		}
	}
	messages := []string{err.Error()}
	var several *yaml.TypeError
	if errors.As(err, &several) {
		messages = several.Errors
	}
	var problems []*Problem
	for _, message := range messages {
		p := &Problem{Source: source, Text: oneLine(message)}
		if m := yamlLine.FindStringSubmatch(p.Text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Text = m[2]
		}
		if m := unknownKey.FindStringSubmatch(p.Text); m != nil {
			p.Text = "unknown key " + strconv.Quote(m[1])
		}
		problems = append(problems, p)
	}
	return f, joined(problems)
}

// reader turns texts into values and collects what is wrong.
type reader struct {
	source   string
	problems []*Problem
}

// wrong adds each line of text as a problem of its own.
func (r *reader) wrong(line int, text string) {
	for part := range strings.Lines(text) {
		r.problems = append(r.problems, &Problem{Source: r.source, Line: line, Text: oneLine(part)})
	}
}

func (r *reader) drive(t text) line.Drive {
	drive, err := line.ParseDrive(t.value)
	if err != nil {
		r.wrong(t.line, err.Error())
	}
	return drive
}

func (r *reader) duration(t text) time.Duration {
	if t.value == "" {
		return 0
	}
	d, err := time.ParseDuration(t.value)
	if err != nil {
		r.wrong(t.line, strconv.Quote(t.value)+" is no duration; write one like 1500ms or 15s")
	}
	return d
}

func (r *reader) baud(t text) uint32 {
	if t.value == "" {
		return 0
	}
	baud, err := strconv.ParseUint(t.value, 10, 32)
	if err != nil || baud == 0 {
		r.wrong(t.line, strconv.Quote(t.value)+" is no rate in bit/s; write one like 1200")
	}
	return uint32(baud)
}

func (r *reader) settings(t text) line.Settings {
	var s line.Settings
	if err := s.UnmarshalText([]byte(t.value)); err != nil {
		r.wrong(t.line, err.Error())
	}
	return s
}

func (r *reader) texts(all []text) []string {
	var out []string
	for _, t := range all {
		out = append(out, t.value)
	}
	return out
}

// borrows tells whether a profile names a recipe that the file does not have.
func (f file) borrows() bool {
	for _, e := range f.Profiles {
		for _, reference := range e.Recipes {
			if _, own := f.Recipes[reference.value]; !own {
				return true
			}
		}
	}
	return false
}

// recipes returns the recipes of the file by name.
func (f file) recipes() (map[string]profile.Recipe, error) {
	r := reader{source: f.source}
	all := map[string]profile.Recipe{}
	for _, name := range sortedNames(f.Recipes) {
		entry := f.Recipes[name]
		recipe := profile.Recipe{Name: name}
		for _, s := range entry.Steps {
			recipe.Steps = append(recipe.Steps, profile.Step{
				DTR: r.drive(s.DTR), RTS: r.drive(s.RTS), Break: r.drive(s.Break), Baud: r.baud(s.Baud), Wait: r.duration(s.Wait),
			})
		}
		if err := recipe.Check(); err != nil {
			r.wrong(entry.line(), err.Error())
		}
		if len(entry.Sources) == 0 {
			r.wrong(entry.line(), "recipe "+strconv.Quote(name)+" has no source; say where it comes from")
		}
		all[name] = recipe
	}
	return all, joined(r.problems)
}

// line is a line of the entry that is known, 0 if none is.
func (e recipeEntry) line() int {
	if len(e.Sources) > 0 {
		return e.Sources[0].line
	}
	for _, s := range e.Steps {
		for _, t := range []text{s.DTR, s.RTS, s.Break, s.Baud, s.Wait} {
			if t.line > 0 {
				return t.line
			}
		}
	}
	return 0
}

// profiles returns the profiles of the file; known are the recipes that they
// may name.
func (f file) profiles(known map[string]profile.Recipe) ([]profile.Profile, error) {
	r := reader{source: f.source}
	var all []profile.Profile
	for _, e := range f.Profiles {
		p := profile.Profile{
			Name: e.Name.value, Title: e.Title.value, Disabled: e.Disabled, Kind: e.Kind.value, Generic: e.Generic,
			Line: r.settings(e.Line), DTR: r.drive(e.DTR), RTS: r.drive(e.RTS), Pulse: e.Pulse.value,
			MaxStale: r.duration(e.MaxStale), Busy: profile.Busy(e.Busy.value), Hold: r.duration(e.Hold),
			Sources: r.texts(e.Sources), Notes: e.Notes.value,
		}
		for _, m := range e.Match {
			p.Matches = append(p.Matches, profile.Match{
				VID: m.VID.value, PID: m.PID.value, Product: m.Product.value, Manufacturer: m.Manufacturer.value,
				Interface: m.Interface.value, Driver: m.Driver.value,
			})
		}
		for _, name := range sortedNames(e.Recipes) {
			reference := e.Recipes[name]
			recipe, ok := known[reference.value]
			if !ok {
				r.wrong(reference.line, "no recipe is called "+strconv.Quote(reference.value))
				continue
			}
			recipe.Name = name
			p.Recipes = append(p.Recipes, recipe)
		}
		if err := p.Check(); err != nil {
			r.wrong(e.Name.line, err.Error())
		}
		all = append(all, p)
	}
	return all, joined(r.problems)
}
