package device_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/registry"
)

func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Profiles: bridgetest.Boards}, bridgetest.Pinned, bridgetest.Zwave)
		defer w.Close()
		d := w.Device("garage-board")
		if want := []string{session.CapabilityModem, session.CapabilityReset + "bootloader"}; !reflect.DeepEqual(d.Capabilities, want) {
			t.Errorf("capabilities %q, want %q", d.Capabilities, want)
		}
		port := w.Port(bridgetest.Pinned.Path)
		steps := []profile.Step{
			{DTR: line.DriveOn}, {Break: line.DriveOn, Wait: 250 * time.Millisecond}, {Break: line.DriveOff, RTS: line.DriveOn},
		}
		if err := w.Publisher.Signal(w.Ctx, "garage-board", steps); err != nil {
			t.Fatal(err)
		}
		if err := w.Publisher.Reset(w.Ctx, "garage-board", "bootloader"); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"0s dtr", "0s break on", "250ms dtr+rts", "250ms break off",
			"250ms rts", "350ms dtr", "400ms none",
		}
		if have := port.Happened(); !reflect.DeepEqual(have, want) {
			t.Errorf("the device saw %q, want %q", have, want)
		}
		ctx, cancel := context.WithTimeout(w.Ctx, time.Second)
		defer cancel()
		err := w.Publisher.Signal(ctx, "garage-board", []profile.Step{{Break: line.DriveOn, Wait: 5 * time.Second}, {Break: line.DriveOff}})
		if have := port.Happened(); !errors.Is(err, context.DeadlineExceeded) || have[len(have)-1] != "1.4s break off" {
			t.Errorf("a break that was ended early: %v, %q", err, have)
		}
		for _, test := range []struct {
			name string
			err  error
			want error
		}{
			{"no device", w.Publisher.Signal(w.Ctx, "nothing", steps), session.CodeNotFound},
			{"no recipe", w.Publisher.Reset(w.Ctx, "garage-board", "nothing"), profile.ErrNoRecipe},
			{"nothing to do", w.Publisher.Signal(w.Ctx, "garage-board", nil), profile.ErrProfile},
			{"a break without an end", w.Publisher.Signal(w.Ctx, "garage-board", steps[1:2]), profile.ErrProfile},
			{"no pins", w.Publisher.Signal(w.Ctx, "garage-zwave", steps), bridgetest.ErrNoPins},
		} {
			if !errors.Is(test.err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, test.err, test.want)
			}
		}
		w.Unplug()
		time.Sleep(2 * time.Second)
		if err := w.Publisher.Signal(w.Ctx, "garage-board", steps); !errors.Is(err, session.CodeGone) {
			t.Errorf("unplugged: %v", err)
		}
	})
}

// TestSignalsOfSession: controls act at their place in the data, and the
// consumer is told how the lines stand.
func TestSignalsOfSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Profiles: bridgetest.Boards}, bridgetest.Pinned)
		defer w.Close()
		c := w.DialOwner(session.Open{Device: "garage-board", Take: session.TakeNormal})
		if have := time.Duration(c.Accept.StaleMillis) * time.Millisecond; have != 1500*time.Millisecond || c.Accept.HoldMillis != 7000 || c.Accept.Line != "74880n81" {
			t.Errorf("%+v", c.Accept)
		}
		const all = uint64(line.DTR | line.RTS | line.CTS | line.DSR | line.DCD | line.RI)
		expect := func(what string, on line.ModemLines) {
			t.Helper()
			synctest.Wait()
			told := c.Told(session.KindModem)
			if len(told) == 0 || told[len(told)-1].Bits != uint64(on) || told[len(told)-1].Mask != all {
				t.Errorf("%s: told %+v, want %v", what, told, on)
			}
		}
		expect("at the start", line.CTS)
		port := w.Port(bridgetest.Pinned.Path)
		port.Drive(line.DCD, true)
		expect("an input", line.CTS|line.DCD)
		c.Control(session.Control{Kind: session.KindModem, Mask: uint64(line.ModemOutputs), Bits: uint64(line.DTR)})
		expect("an output", line.CTS|line.DCD|line.DTR)
		c.Control(session.Control{Kind: session.KindBreak, Millis: 20})
		c.Control(session.Control{Kind: session.KindReset, Text: "bootloader"})
		c.Write([]byte("sync"))
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(port.ToDevice.Read), 4); err != nil || string(have) != "sync" {
			t.Errorf("%q, %v", have, err)
		}
		want := []string{"0s dtr", "0s break on", "20ms break off", "20ms rts", "120ms dtr", "170ms none"}
		if have := port.Happened(); !reflect.DeepEqual(have, want) {
			t.Errorf("the device saw %q, want %q", have, want)
		}
		c.Control(session.Control{Kind: session.KindReset, Text: "nothing"})
		synctest.Wait()
		if told := c.Told(session.KindFailed); len(told) != 1 || told[0].Text == "" || told[0].Mask != uint64(line.ModemOutputs) || told[0].Bits != 0 {
			t.Errorf("of a recipe that there is not: %+v", told)
		}
		c.Control(session.Control{Kind: session.KindBreak, Bits: 1})
		synctest.Wait()
		c.Close()
		synctest.Wait()
		if have := port.Happened(); have[len(have)-1] != "170ms break off" {
			t.Errorf("a break outlives its session: %q", have)
		}
	})
}

// TestOutputsAtBegin: what one session did to DTR and RTS, as the drop at the close
// of a PTY with HUPCL, the next does not find.
func TestOutputsAtBegin(t *testing.T) {
	both := uint64(line.ModemOutputs)
	for _, test := range []struct {
		name string
		rule rule.Rule
		told []profile.Step // by a person, before
		did  session.Control
		want []string
	}{
		{"dropped, the rule says nothing", rule.Rule{}, nil, session.Control{Mask: both}, []string{"none", "dtr+rts"}},
		{"dropped, the rule wants one off", rule.Rule{DTR: line.DriveOff}, nil, session.Control{Mask: both}, []string{"none", "rts"}},
		{"dropped, the rule wants one on and one off", rule.Rule{DTR: line.DriveOn, RTS: line.DriveOff}, nil, session.Control{Mask: both}, []string{"none", "dtr"}},
		{"raised, the rule wants both off", rule.Rule{DTR: line.DriveOff, RTS: line.DriveOff}, nil, session.Control{Mask: both, Bits: both}, []string{"dtr+rts", "none"}},
		{"one dropped, the other is left alone", rule.Rule{}, nil, session.Control{Mask: uint64(line.RTS)}, []string{"none", "rts"}},
		{"nothing done", rule.Rule{DTR: line.DriveOff}, nil, session.Control{}, nil},
		{"a person set one", rule.Rule{}, []profile.Step{{RTS: line.DriveOff}}, session.Control{Mask: both}, []string{"none", "none", "dtr"}},
		{"a person set it, nothing done", rule.Rule{}, []profile.Step{{RTS: line.DriveOff}}, session.Control{}, []string{"none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.rule.Match, test.rule.Name = rule.Match{VID: "303a"}, "lab"
				w := bridgetest.NewWorld(t, publish.Config{Rules: []rule.Rule{test.rule}}, bridgetest.Pinned)
				defer w.Close()
				port := w.Port(bridgetest.Pinned.Path)
				if test.told != nil {
					if err := w.Publisher.Signal(w.Ctx, "lab", test.told); err != nil {
						t.Fatal(err)
					}
				}
				open := session.Open{Device: "lab", Take: session.TakeNormal}
				first := w.DialOwner(open)
				if test.did.Mask != 0 {
					test.did.Kind = session.KindModem
					first.Control(test.did)
				}
				synctest.Wait()
				first.Close()
				synctest.Wait()
				second := w.DialOwner(open)
				var have []string
				for _, h := range port.Happened() {
					have = append(have, strings.TrimPrefix(h, "0s "))
				}
				if !slices.Equal(have, test.want) {
					t.Errorf("the device saw %q, want %q", have, test.want)
				}
				second.Close()
			})
		})
	}
}

// TestProfiles: what a rule does not say, the profile says.
func TestProfiles(t *testing.T) {
	chip := bridgetest.USB("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
	board := rule.Match{VID: "303a"}
	for _, test := range []struct {
		name  string
		rules []rule.Rule
		want  publish.PortSpec
		kind  string
		prof  string
	}{
		{"no rule", nil, publish.PortSpec{Line: line.Settings{Baud: 74880, DataBits: 8}, DTR: line.DriveOff, RTS: line.DriveOff}, "board", "esp32"},
		{"a rule without settings", []rule.Rule{{Match: board}},
			publish.PortSpec{Line: line.Settings{Baud: 74880, DataBits: 8}, DTR: line.DriveOff, RTS: line.DriveOff}, "board", "esp32"},
		{"a rule overrides", []rule.Rule{{Match: board, Kind: "lab", Line: line.Settings{Baud: 300, DataBits: 7}, RTS: line.DriveOn}},
			publish.PortSpec{Line: line.Settings{Baud: 300, DataBits: 7}, DTR: line.DriveOff, RTS: line.DriveOn}, "lab", "esp32"},
		{"turned off", []rule.Rule{{Match: board, Profile: rule.ProfileNone}}, publish.PortSpec{}, "serial", ""},
		{"another", []rule.Rule{{Match: board, Profile: "any"}}, publish.PortSpec{Line: line.Settings{Baud: 9600, DataBits: 8}}, "serial", "any"},
		{"one that is not known", []rule.Rule{{Match: board, Profile: "nothing"}}, publish.PortSpec{}, "serial", ""},
		{"RS-485", []rule.Rule{{Match: board, Profile: rule.ProfileNone, RS485: line.RS485{On: true}}},
			publish.PortSpec{RS485: line.RS485{On: true}}, "serial", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, publish.Config{Profiles: bridgetest.Boards, Rules: test.rules}, bridgetest.Pinned, chip)
				defer w.Close()
				test.want.Path = bridgetest.Pinned.Path
				if have := w.Port(bridgetest.Pinned.Path).Spec(); have != test.want {
					t.Errorf("opened with %+v, want %+v", have, test.want)
				}
				if have := w.Published(); len(have) != 1 { // a generic profile publishes nothing
					t.Errorf("published %q", have)
				}
				d := w.Device("garage-" + test.kind)
				if d.Kind != test.kind || d.Profile != test.prof || d.State != registry.StateAvailable {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

// TestProfilePolicy: busy and hold come from the profile too.
func TestProfilePolicy(t *testing.T) {
	for _, test := range []struct {
		name string
		rule rule.Rule
		want error
	}{
		{"the profile refuses", rule.Rule{}, session.CodeBusy},
		{"the rule kicks", rule.Rule{Busy: rule.BusyKick}, nil},
		{"no profile", rule.Rule{Profile: rule.ProfileNone, Name: "garage-board"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.rule.Match = rule.Match{VID: "303a"}
				w := bridgetest.NewWorld(t, publish.Config{Profiles: bridgetest.Boards, Rules: []rule.Rule{test.rule}}, bridgetest.Pinned)
				defer w.Close()
				open := session.Open{Device: "garage-board", Take: session.TakeNormal}
				first := w.DialOwner(open)
				second, err := w.TryOwner([16]byte{2}, open)
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if err == nil {
					second.Close()
				}
				first.Close()
			})
		})
	}
}
