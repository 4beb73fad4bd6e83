package profiles_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/configs/profiles"
)

// update writes TABLE.md: go test ./configs/profiles -args -update.
var update = flag.Bool("update", false, "write TABLE.md")

func embedded(t testing.TB) []profile.Profile {
	t.Helper()
	all, err := profiles.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEmbedded: every file is read, every profile and recipe checks, every
// source is an address, and no match of two profiles is the same.
func TestEmbedded(t *testing.T) {
	all := embedded(t)
	if len(all) < 30 {
		t.Errorf("only %d profiles", len(all))
	}
	for _, p := range all {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		for _, r := range p.Recipes {
			if err := r.Check(); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		for _, source := range p.Sources {
			if !strings.HasPrefix(source, "https://") {
				t.Errorf("%s: source %q is no address", p.Name, source)
			}
		}
		if p.Kind != profile.KindSerial && p.Generic || p.Kind == profile.KindSerial && !p.Generic {
			t.Errorf("%s: kind %s, generic %v", p.Name, p.Kind, p.Generic)
		}
		// What registry.Device takes.
		if len(p.Kind) > 32 || len(p.Name) > 64 {
			t.Errorf("%s: name or kind is too long for the registry", p.Name)
		}
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := profiles.Parse(file, data); err != nil {
			t.Error(err)
		}
	}
}

// TestFind: which profile real devices get.
func TestFind(t *testing.T) {
	all := embedded(t)
	for _, tt := range []struct {
		vid, pid, product, manufacturer, iface, driver string
		want                                           string
	}{
		{"0658", "0200", "", "", "00", "cdc_acm", "zwave-500"},
		{"303A", "4001", "ZWA-2", "Nabu Casa", "00", "cdc_acm", "zwave-zwa2"},
		{"303a", "4001", "ZBT-2", "Nabu Casa", "00", "cdc_acm", "zbt-2"},
		{"10c4", "8a2a", "HubZ Smart Home Controller", "Silicon Labs", "00", "cp210x", "husbzb1-zwave"},
		{"10c4", "8a2a", "HubZ Smart Home Controller", "Silicon Labs", "01", "cp210x", "husbzb1-zigbee"},
		// Six with one bridge chip, told apart by product; then the chip itself.
		{"10c4", "ea60", "Sonoff Zigbee 3.0 USB Dongle Plus", "Silicon Labs", "00", "cp210x", "sonoff-dongle-p"},
		{"10c4", "ea60", "Sonoff Zigbee 3.0 USB Dongle Plus V2", "Itead", "00", "cp210x", "sonoff-dongle-e"},
		{"10c4", "ea60", "SkyConnect v1.0", "Nabu Casa", "00", "cp210x", "skyconnect"},
		{"10c4", "ea60", "Home Assistant Connect ZBT-1", "Nabu Casa", "00", "cp210x", "skyconnect"},
		{"10c4", "ea60", "slae.sh cc2652rb stick - slaesh's iot stuff", "Silicon Labs", "00", "cp210x", "slaesh-cc2652rb"},
		{"10c4", "ea60", "SMLIGHT SLZB-07", "SMLIGHT", "00", "cp210x", "slzb-07"},
		{"10c4", "ea60", "SMLIGHT SLZB-07p7", "SMLIGHT", "00", "cp210x", "smlight-cc2652"},
		{"10c4", "ea60", "SONOFF Dongle Max MG24", "SONOFF", "00", "cp210x", "sonoff-dongle-m"},
		{"10c4", "ea60", "CP2102N USB to UART Bridge Controller", "Silicon Labs", "00", "cp210x", "cp210x"},
		{"10c4", "ffff", "something", "", "00", "cp210x", "cp210x"},
		{"1a86", "55d4", "SONOFF Zigbee 3.0 USB Dongle Plus V2", "ITEAD", "00", "cdc_acm", "sonoff-dongle-e"},
		{"1a86", "55d4", "USB Single Serial", "", "00", "cdc_acm", "ch34x"},
		{"1a86", "7523", "USB Serial", "", "00", "ch341", "ch34x"},
		{"1a86", "7523", "TubesZB", "", "00", "ch341", "tubeszb"},
		{"1cf1", "0030", "ConBee II", "dresden elektronik ingenieurtechnik GmbH", "00", "cdc_acm", "conbee-2"},
		{"0403", "6015", "ConBee III", "dresden elektronik", "00", "ftdi_sio", "conbee-3"},
		{"0403", "6015", "FT230X Basic UART", "FTDI", "00", "ftdi_sio", "ftdi"},
		{"0403", "6001", "RFXtrx433", "RFXCOM", "00", "ftdi_sio", "rfxtrx"},
		{"0403", "6015", "zzh", "Electrolama", "00", "ftdi_sio", "electrolama-zzh"},
		{"067b", "2303", "USB-Serial Controller", "Prolific", "00", "pl2303", "pl2303"},
		{"067b", "2303", "x", "zigate_PL2303", "00", "pl2303", "zigate"},
		{"0451", "bef3", "XDS110", "Texas Instruments", "00", "cdc_acm", "ti-launchpad"},
		{"0451", "bef3", "XDS110", "Texas Instruments", "03", "cdc_acm", "cdc-acm"},
		{"1915", "cafe", "nRF528xx OpenThread Device", "Nordic Semiconductor", "00", "cdc_acm", "nordic-openthread"},
		{"2341", "0043", "", "Arduino", "00", "cdc_acm", "arduino-uno"},
		{"2341", "8036", "Arduino Leonardo", "Arduino LLC", "00", "cdc_acm", "arduino-32u4"},
		{"2e8a", "000a", "Pico", "Raspberry Pi", "00", "cdc_acm", "raspberry-pico"},
		{"303a", "1001", "USB JTAG/serial debug unit", "Espressif", "00", "cdc_acm", "esp-usb-jtag"},
		{"1d50", "6018", "Black Magic Probe", "", "00", "cdc_acm", "cdc-acm"},
		{"", "", "", "", "", "serial8250", ""},
	} {
		d := profile.Device{VID: tt.vid, PID: tt.pid, Product: tt.product, Manufacturer: tt.manufacturer, Interface: tt.iface, Driver: tt.driver}
		if p, ok := profile.Find(all, d); p.Name != tt.want || ok != (tt.want != "") {
			t.Errorf("%+v: profile %q, want %q", d, p.Name, tt.want)
		}
	}
}

// TestRecipes: the sequences whose timing and order matter, as their sources
// have them.
func TestRecipes(t *testing.T) {
	const ms = time.Millisecond
	all := embedded(t)
	for _, tt := range []struct {
		profile, recipe, want string
		run                   time.Duration
	}{
		{"cp210x", "bootloader", "00 11 01 10 00", 150 * ms},
		{"cp210x", "run", "01 00", 100 * ms},
		{"esp-usb-jtag", "bootloader", "00 10 -1 01 00", 300 * ms},
		{"esp-usb-jtag", "run", "01 00", 400 * ms},
		{"arduino-uno", "run", "00 11", 300 * ms},
		{"arduino-32u4", "bootloader", "11@1200 01", 550 * ms},
		{"slaesh-cc2652rb", "run", "00 01 00", 450 * ms},
		{"slaesh-cc2652rb", "bootloader", "10 11 10 0-", 106 * ms},
		{"sonoff-dongle-p", "bootloader", "01 10 00", 110 * ms},
		{"sonoff-dongle-p", "run", "01 00", 110 * ms},
		{"sonoff-dongle-e", "bootloader", "01 10 00", 600 * ms},
	} {
		p := all[slices.IndexFunc(all, func(p profile.Profile) bool { return p.Name == tt.profile })]
		r, ok := p.Recipe(tt.recipe)
		if !ok {
			t.Errorf("%s has no recipe %q", tt.profile, tt.recipe)
			continue
		}
		var steps []string
		for _, s := range r.Steps {
			digit := map[line.Drive]string{line.DriveOn: "1", line.DriveOff: "0", line.DriveUnchanged: "-"}
			step := digit[s.DTR] + digit[s.RTS]
			if s.Baud != 0 {
				step += fmt.Sprintf("@%d", s.Baud)
			}
			steps = append(steps, step)
		}
		if got := strings.Join(steps, " "); got != tt.want || r.Run() != tt.run {
			t.Errorf("%s %s: DTR and RTS %s for %v, want %s for %v", tt.profile, tt.recipe, got, r.Run(), tt.want, tt.run)
		}
	}
}

func TestParse(t *testing.T) {
	const own = `
profiles:
  - name: my-meter
    title: Meter
    match: [{vid: 0658, pid: 10e4, product: Meter}]
    kind: meter
    line: 9600e71
    dtr: on
    rts: off
    pulse: it beeps
    max_stale: 3s
    busy: share
    hold: 1m
    recipes: {run: mine, other: esp-run}
    sources: [me]
    notes: none
  - {name: cdc-acm, disabled: true}
recipes:
  mine:
    sources: [me]
    steps: [{break: on, wait: 250ms}, {break: off}]
`
	got, err := profiles.Parse("own.yaml", []byte(own))
	if err != nil || len(got) != 2 {
		t.Fatalf("Parse = %+v, %v", got, err)
	}
	p := got[0]
	if p.Line.String() != "9600e71" || p.DTR != line.DriveOn || p.RTS != line.DriveOff || p.MaxStale != 3*time.Second || p.Hold != time.Minute ||
		p.Busy != profile.BusyShare || p.Matches[0] != (profile.Match{VID: "0658", PID: "10e4", Product: "Meter"}) || p.Pulse != "it beeps" ||
		p.Notes != "none" || !slices.Equal(p.Sources, []string{"me"}) || p.Title != "Meter" || p.Kind != "meter" {
		t.Errorf("profile %+v", p)
	}
	if mine, ok := p.Recipe("run"); !ok || len(mine.Steps) != 2 || mine.Steps[0] != (profile.Step{Break: line.DriveOn, Wait: 250 * time.Millisecond}) {
		t.Errorf("recipe %+v", mine)
	}
	if other, ok := p.Recipe("other"); !ok || len(other.Steps) != 2 {
		t.Errorf("recipe that comes along %+v", other)
	}
	all := profile.Overlay(embedded(t), got)
	if p, ok := profile.Find(all, profile.Device{VID: "1d50", PID: "6018", Driver: "cdc_acm"}); ok {
		t.Errorf("a profile that is turned off matches: %s", p.Name)
	}
	if got, err := profiles.Parse("empty.yaml", []byte("# nothing\n")); err != nil || got != nil {
		t.Errorf("empty file: %v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	const valid = "profiles:\n  - name: a\n    title: A\n    kind: a\n    sources: [me]\n    match: [{vid: 0658}]\n"
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "profiles:\n  - name: a\n    tittle: A\n", `f.yaml:3: unknown key "tittle"`},
		{"unknown key in a match", valid + "    dtr: on\n  - match: [{vid: 0658, serial: x}]\n", `f.yaml:8: unknown key "serial"`},
		{"unknown key at the top", "profile: []\n", `f.yaml:1: unknown key "profile"`},
		{"unknown key in a step", "recipes:\n  a:\n    steps: [{dtr: on, sleep: 1s}]\n", `f.yaml:3: unknown key "sleep"`},
		{"not YAML", "profiles: [\n", "f.yaml:1: did not find"},
		{"two documents", "profiles: []\n---\nprofiles: []\n", "f.yaml:2: a second document"},
		{"list for a word", "profiles:\n  - name: [a]\n", "f.yaml:2: want one word"},
		{"same key twice", "profiles: []\nprofiles: []\n", "f.yaml:2: "},
		{"line", valid + "    line: fast\n", `f.yaml:7: parse line settings "fast"`},
		{"dtr", valid + "    dtr: up\n", "f.yaml:7: parse modem line"},
		{"duration", valid + "    hold: 15\n", `f.yaml:7: "15" is no duration`},
		{"busy", valid + "    busy: fight\n", "f.yaml:2: check profile"},
		{"no such recipe", valid + "    recipes: {run: nowhere}\n", `f.yaml:7: no recipe is called "nowhere"`},
		{"no source", "profiles:\n  - name: a\n    title: A\n    kind: a\n    match: [{vid: 0658}]\n", "f.yaml:2: check profile"},
		{"empty recipe", "recipes:\n  a:\n    sources: [me]\n", "f.yaml:3: check recipe"},
		{"recipe without source", "recipes:\n  a:\n    steps: [{dtr: on}]\n", "f.yaml:3: recipe"},
		{"rate", "recipes:\n  a:\n    sources: [me]\n    steps: [{baud: 0}]\n", `f.yaml:4: "0" is no rate`},
		{"name twice", valid + strings.TrimPrefix(valid, "profiles:\n"), "f.yaml: check profile"},
		{"too long", "# " + strings.Repeat("x", 256<<10), "f.yaml: longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := profiles.Parse("f.yaml", []byte(tt.text))
			var problem *profiles.Problem
			if !errors.As(err, &problem) || got != nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("Parse = %v, %v, want %s", got, err, tt.want)
			}
		})
	}
	_, err := profiles.Parse("f.yaml", []byte(valid+"    dtr: up\n    hold: x\n    sauce: y\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("unknown keys are told before values: %v", err)
	}
	_, err = profiles.Parse("f.yaml", []byte(valid+"    dtr: up\n    hold: x\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("all problems at once: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"profiles:\n  - {name: a, title: A, kind: a, sources: [me], match: [{vid: 0658, pid: 0200, product: x}], line: 9600e71, recipes: {run: r}}\n",
		"recipes:\n  r: {sources: [me], steps: [{dtr: on, rts: off, wait: 5ms}, {break: on}, {break: off, baud: 1200}]}\n",
		"profiles: [{name: a, disabled: true}]\n", "profile: []\n", "profiles: [\n", "---\n---\n", "profiles: [{name: [a]}]\n", "a: &a [*a]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := profiles.Parse("f.yaml", data)
		if err != nil {
			var problem *profiles.Problem
			if !errors.As(err, &problem) || got != nil {
				t.Fatalf("Parse = %v, %v", got, err)
			}
			return
		}
		if err := profile.CheckSet(got); err != nil {
			t.Fatalf("what Parse returns fails its check: %v", err)
		}
	})
}

// TestTable: TABLE.md is what the profiles say.
func TestTable(t *testing.T) {
	want := table(embedded(t))
	if *update {
		if err := os.WriteFile("TABLE.md", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("TABLE.md"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("TABLE.md is not current, %v: write it with go test ./configs/profiles -args -update", err)
	}
}

func table(all []profile.Profile) []byte {
	var b bytes.Buffer
	b.WriteString("# Known devices\n\nWritten by `go test ./configs/profiles -args -update` from the files beside it; change those.\n\n" +
		"Of several profiles that match the most specific counts: a product string before a manufacturer, both before USB IDs alone, " +
		"a longer text before a shorter. Profiles marked *chip* know a bridge chip and not what is behind it: `publish: known` leaves them alone.\n\n" +
		"| Profile | Device | Kind | Matches | Line | DTR, RTS | Minds the pulse at open | max_stale | Resets |\n|---|---|---|---|---|---|---|---|---|\n")
	dash := func(text string) string {
		if text == "" {
			return "–"
		}
		return strings.ReplaceAll(text, "|", `\|`)
	}
	for _, p := range all {
		var matches, recipes []string
		for _, m := range p.Matches {
			matches = append(matches, m.String())
		}
		for _, r := range p.Recipes {
			recipes = append(recipes, r.Name)
		}
		kind, drives, stale, pulse := p.Kind, "", "", "no"
		if p.Generic {
			kind += ", *chip*"
			pulse = "unknown"
		}
		if p.DTR != line.DriveUnchanged || p.RTS != line.DriveUnchanged {
			drives = p.DTR.String() + ", " + p.RTS.String()
		}
		if p.MaxStale > 0 {
			stale = p.MaxStale.String()
		}
		if p.Pulse != "" {
			pulse = p.Pulse
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s | %s |\n", p.Name, dash(p.Title), kind, dash(strings.Join(matches, "; ")),
			dash(p.Line.String()), dash(drives), pulse, dash(stale), dash(strings.Join(recipes, ", ")))
	}
	b.WriteString("\n## Notes and sources\n")
	for _, p := range all {
		fmt.Fprintf(&b, "\n### %s\n\n", p.Name)
		if p.Notes != "" {
			fmt.Fprintf(&b, "%s\n\n", p.Notes)
		}
		for _, source := range p.Sources {
			fmt.Fprintf(&b, "- <%s>\n", source)
		}
	}
	return b.Bytes()
}

// BenchmarkEmbedded is what an agent pays at its start.
func BenchmarkEmbedded(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := profiles.Embedded(); err != nil {
			b.Fatal(err)
		}
	}
}
