package profile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
)

// named returns a valid profile with these matches.
func named(name string, matches ...profile.Match) profile.Profile {
	return profile.Profile{Name: name, Title: name, Kind: "zigbee", Matches: matches, Sources: []string{"test"}}
}

func TestMatch(t *testing.T) {
	device := profile.Device{VID: "10c4", PID: "ea60", Product: "Sonoff Zigbee 3.0", Manufacturer: "ITead", Interface: "01", Driver: "cp210x"}
	for _, tt := range []struct {
		name  string
		match profile.Match
		want  bool
	}{
		{"ids in capitals", profile.Match{VID: "10C4", PID: "EA60"}, true},
		{"vendor", profile.Match{VID: "10c4"}, true},
		{"driver", profile.Match{Driver: "cp210x"}, true},
		{"part of the product", profile.Match{VID: "10c4", Product: "ZIGBEE"}, true},
		{"interface", profile.Match{VID: "10c4", Interface: "01"}, true},
		{"all", profile.Match{VID: "10c4", PID: "ea60", Product: "sonoff", Manufacturer: "itead", Interface: "01", Driver: "cp210x"}, true},
		{"nothing", profile.Match{}, false},
		{"vendor differs", profile.Match{VID: "10c5"}, false},
		{"product differs", profile.Match{VID: "10c4", PID: "ea61"}, false},
		{"string differs", profile.Match{VID: "10c4", Product: "conbee"}, false},
		{"maker differs", profile.Match{VID: "10c4", Manufacturer: "nabu"}, false},
		{"interface differs", profile.Match{VID: "10c4", Interface: "00"}, false},
		{"driver differs", profile.Match{VID: "10c4", Driver: "cdc_acm"}, false},
		{"a text is no pattern", profile.Match{VID: "10c4", Product: "son.ff"}, false},
	} {
		if got := tt.match.Matches(device); got != tt.want {
			t.Errorf("%s: Matches = %v", tt.name, got)
		}
	}
	if (profile.Match{VID: "10c4"}).Matches(profile.Device{}) {
		t.Error("a device that is not on USB matches")
	}
}

// TestFind: each row's first profile is more specific than its second, in
// whatever order they stand.
func TestFind(t *testing.T) {
	device := profile.Device{VID: "10c4", PID: "ea60", Product: "Dongle Plus V2", Manufacturer: "ITead", Interface: "01", Driver: "cp210x"}
	for _, tt := range []struct {
		name       string
		more, less profile.Match
	}{
		{"product over ids", profile.Match{VID: "10c4", PID: "ea60", Product: "dongle"}, profile.Match{VID: "10c4", PID: "ea60"}},
		{"product over maker and interface", profile.Match{VID: "10c4", Product: "dongle"}, profile.Match{VID: "10c4", PID: "ea60", Manufacturer: "itead", Interface: "01", Driver: "cp210x"}},
		{"longer product", profile.Match{VID: "10c4", PID: "ea60", Product: "dongle plus v2"}, profile.Match{VID: "10c4", PID: "ea60", Product: "dongle plus"}},
		{"more beside the product", profile.Match{VID: "10c4", PID: "ea60", Product: "v2"}, profile.Match{VID: "10c4", Product: "dongle plus v2"}},
		{"maker over interface", profile.Match{VID: "10c4", PID: "ea60", Manufacturer: "itead"}, profile.Match{VID: "10c4", PID: "ea60", Interface: "01"}},
		{"longer maker", profile.Match{VID: "10c4", Manufacturer: "itead"}, profile.Match{VID: "10c4", Manufacturer: "it"}},
		{"interface over ids", profile.Match{VID: "10c4", PID: "ea60", Interface: "01"}, profile.Match{VID: "10c4", PID: "ea60"}},
		{"product ID over interface", profile.Match{VID: "10c4", PID: "ea60"}, profile.Match{VID: "10c4", Interface: "01"}},
		{"vendor over driver", profile.Match{VID: "10c4"}, profile.Match{Driver: "cp210x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := []profile.Profile{named("less", tt.less), named("more", tt.more)}
			for range 2 {
				if got, ok := profile.Find(all, device); !ok || got.Name != "more" {
					t.Errorf("Find = %q, %v", got.Name, ok)
				}
				slices.Reverse(all)
			}
		})
	}
	t.Run("equal", func(t *testing.T) {
		all := []profile.Profile{named("first", profile.Match{VID: "10c4"}), named("second", profile.Match{VID: "10C4"})}
		if got, _ := profile.Find(all, device); got.Name != "first" {
			t.Errorf("Find = %q", got.Name)
		}
	})
	t.Run("the best of several matches", func(t *testing.T) {
		all := []profile.Profile{named("a", profile.Match{VID: "10c4", PID: "ea60"}), named("b", profile.Match{VID: "10c4"}, profile.Match{VID: "10c4", Product: "plus"})}
		if got, _ := profile.Find(all, device); got.Name != "b" {
			t.Errorf("Find = %q", got.Name)
		}
	})
	t.Run("disabled", func(t *testing.T) {
		wrong := named("wrong", profile.Match{VID: "10c4", Product: "dongle"})
		wrong.Disabled = true
		all := []profile.Profile{wrong, named("chip", profile.Match{VID: "10c4", PID: "ea60"})}
		if got, _ := profile.Find(all, device); got.Name != "chip" {
			t.Errorf("Find = %q", got.Name)
		}
	})
	if got, ok := profile.Find(nil, device); ok || got.Name != "" {
		t.Errorf("Find in nothing = %q", got.Name)
	}
}

// TestOverlay: a user's profile replaces one of its name and wins a tie.
func TestOverlay(t *testing.T) {
	base := []profile.Profile{named("a", profile.Match{VID: "0001"}), named("b", profile.Match{VID: "0002"})}
	mine := named("a", profile.Match{VID: "0003"})
	rival := named("c", profile.Match{VID: "0002"})
	all := profile.Overlay(base, []profile.Profile{mine, rival})
	if len(all) != 3 || len(base) != 2 {
		t.Fatalf("Overlay = %+v", all)
	}
	for vid, want := range map[string]string{"0001": "", "0002": "c", "0003": "a"} {
		if got, _ := profile.Find(all, profile.Device{VID: vid}); got.Name != want {
			t.Errorf("%s: %q, want %q", vid, got.Name, want)
		}
	}
}

func TestCheck(t *testing.T) {
	run := profile.Recipe{Name: "run", Steps: []profile.Step{{DTR: line.DriveOn}}}
	for _, tt := range []struct {
		name   string
		change func(*profile.Profile)
		want   string // "": fine
	}{
		{"fine", func(*profile.Profile) {}, ""},
		{"all given", func(p *profile.Profile) {
			p.Line, p.DTR, p.RTS, p.MaxStale, p.Busy, p.Hold = line.Default(), line.DriveOn, line.DriveOff, time.Second, profile.BusyShare, time.Minute
			p.Recipes = []profile.Recipe{run}
		}, ""},
		{"disabled needs a name only", func(p *profile.Profile) { *p = profile.Profile{Name: "a", Disabled: true} }, ""},
		{"zero value", func(p *profile.Profile) { *p = profile.Profile{} }, "name"},
		{"capitals", func(p *profile.Profile) { p.Name = "Abc" }, "name"},
		{"other letters", func(p *profile.Profile) { p.Name = "aäb" }, "name"},
		{"dash at the end", func(p *profile.Profile) { p.Name = "a-" }, "name"},
		{"long name", func(p *profile.Profile) { p.Name = strings.Repeat("a", 65) }, "name"},
		{"kind", func(p *profile.Profile) { p.Kind = "" }, "kind"},
		{"generic of a kind", func(p *profile.Profile) { p.Generic = true }, "generic"},
		{"title", func(p *profile.Profile) { p.Title = "" }, "title"},
		{"no match", func(p *profile.Profile) { p.Matches = nil }, "matches nothing"},
		{"empty match", func(p *profile.Profile) { p.Matches = append(p.Matches, profile.Match{}) }, "match 2"},
		{"short id", func(p *profile.Profile) { p.Matches[0].VID = "658" }, "hexadecimal"},
		{"no hex", func(p *profile.Profile) { p.Matches[0].PID = "zzzz" }, "hexadecimal"},
		{"pid alone", func(p *profile.Profile) { p.Matches[0] = profile.Match{PID: "0200", Driver: "x"} }, "without its vid"},
		{"interface", func(p *profile.Profile) { p.Matches[0].Interface = "1" }, "interface"},
		{"text alone", func(p *profile.Profile) { p.Matches[0] = profile.Match{Product: "x"} }, "vid or a driver"},
		{"line", func(p *profile.Profile) { p.Line.Baud = 9600 }, "line"},
		{"drive", func(p *profile.Profile) { p.RTS = 9 }, "dtr and rts"},
		{"negative", func(p *profile.Profile) { p.Hold = -1 }, "negative"},
		{"busy", func(p *profile.Profile) { p.Busy = "fight" }, "busy"},
		{"recipe", func(p *profile.Profile) { p.Recipes = []profile.Recipe{{Name: "run"}} }, "steps"},
		{"recipe twice", func(p *profile.Profile) { p.Recipes = []profile.Recipe{run, run} }, "two recipes"},
		{"no source", func(p *profile.Profile) { p.Sources = nil }, "source"},
		{"empty source", func(p *profile.Profile) { p.Sources = []string{""} }, "source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := named("a", profile.Match{VID: "0658", PID: "0200"})
			tt.change(&p)
			err := p.Check()
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, profile.ErrProfile) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckSet(t *testing.T) {
	a, b := named("a", profile.Match{VID: "10c4", Product: "x"}), named("b", profile.Match{VID: "10C4", Product: "X"})
	if err := profile.CheckSet([]profile.Profile{a, named("b", profile.Match{VID: "10c4"})}); err != nil {
		t.Error(err)
	}
	for name, all := range map[string][]profile.Profile{"same match": {a, b}, "same name": {a, named("a", profile.Match{VID: "0001"})}, "invalid": {{Name: "x"}}} {
		if err := profile.CheckSet(all); !errors.Is(err, profile.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecipeCheck(t *testing.T) {
	on := profile.Step{DTR: line.DriveOn}
	for _, tt := range []struct {
		name  string
		steps []profile.Step
		fine  bool
	}{
		{"one", []profile.Step{on}, true},
		{"a wait alone", []profile.Step{{Wait: time.Millisecond}}, true},
		{"a rate alone", []profile.Step{{Baud: 1200}}, true},
		{"break that ends", []profile.Step{{Break: line.DriveOn, Wait: time.Second}, {Break: line.DriveOff}}, true},
		{"all of 10 s", []profile.Step{{Wait: 5 * time.Second}, {Wait: 5 * time.Second}}, true},
		{"none", nil, false},
		{"a step that does nothing", []profile.Step{on, {}}, false},
		{"too many", slices.Repeat([]profile.Step{on}, 33), false},
		{"too short a wait", []profile.Step{{Wait: time.Microsecond}}, false},
		{"negative wait", []profile.Step{{Wait: -time.Second}}, false},
		{"too long a wait", []profile.Step{{Wait: 11 * time.Second}}, false},
		{"too long in all", []profile.Step{{Wait: 6 * time.Second}, {Wait: 6 * time.Second}}, false},
		{"break that does not end", []profile.Step{{Break: line.DriveOn, Wait: time.Second}}, false},
		{"drive", []profile.Step{{DTR: 7}}, false},
	} {
		err := profile.Recipe{Name: "run", Steps: tt.steps}.Check()
		if tt.fine != (err == nil) || err != nil && !errors.Is(err, profile.ErrProfile) {
			t.Errorf("%s: Check = %v", tt.name, err)
		}
	}
	if err := (profile.Recipe{Name: "a b", Steps: []profile.Step{on}}).Check(); !errors.Is(err, profile.ErrProfile) {
		t.Errorf("name: Check = %v", err)
	}
}
