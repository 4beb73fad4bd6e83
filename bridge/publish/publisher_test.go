package publish_test

import (
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
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

func TestWhatIsPublished(t *testing.T) {
	stick := bridgetest.USB("/dev/ttyACM0", "0658", "0200", "", "1-1")
	twin := bridgetest.USB("/dev/ttyACM1", "0658", "0200", "", "1-2")
	bridgeChip := bridgetest.USB("/dev/ttyUSB0", "10C4", "ea60", "abc", "1-3")
	uart := rule.Candidate{Path: "/dev/ttyS0"}
	console := rule.Candidate{Path: "/dev/ttyS1", Skip: "system console"}
	all := []rule.Candidate{stick, twin, bridgeChip, uart, console}
	named := func(m rule.Match, name string) []rule.Rule { return []rule.Rule{{Match: m, Name: name}} }
	tests := []struct {
		name    string
		publish rule.Publish
		rules   []rule.Rule
		there   []rule.Candidate
		want    []string
	}{
		{"known", rule.PublishKnown, nil, all, []string{
			"garage-zwave zwave 1-1 available", "garage-zwave-2 zwave 1-2 available"}},
		{"listed, nothing listed", rule.PublishListed, nil, all, nil},
		{"all", rule.PublishAll, nil, all, []string{
			"garage-serial serial /dev/ttyS0 available", "garage-serial-2 serial 1-3 available",
			"garage-zwave zwave 1-1 available", "garage-zwave-2 zwave 1-2 available"}},
		{"by IDs, in any case", rule.PublishListed, named(rule.Match{VID: "10c4", PID: "EA60"}, "lab"), all, []string{
			"lab serial 1-3 available"}},
		{"by port path", rule.PublishListed, named(rule.Match{Port: "1-2"}, "{{.Node}}.{{.Kind}}"), all, []string{
			"garage.zwave zwave 1-2 available"}},
		{"by serial number, which differs", rule.PublishListed, named(rule.Match{VID: "10c4", Serial: "abd"}, "lab"), all, nil},
		{"by path", rule.PublishListed, named(rule.Match{Path: "/dev/ttyS0"}, "generator"), all, []string{
			"generator serial /dev/ttyS0 available"}},
		{"the console is left alone", rule.PublishListed, named(rule.Match{Port: "", VID: "", Interface: "", Serial: "", PID: "", Path: ""}, "x"), all, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, publish.Config{Publish: test.publish, Rules: test.rules}, test.there...)
				defer w.Close()
				if have := w.Published(); !reflect.DeepEqual(have, test.want) {
					t.Errorf("published %q, want %q", have, test.want)
				}
			})
		})
	}
}

// TestReplug: an unplugged stick is away, its session ends; when it is back,
// as another tty, it is opened again and the application goes on.
func TestReplug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		w.Set(func() { w.Present = nil })
		w.Port(bridgetest.Zwave.Path).Unplug(errors.New("input/output error"))
		time.Sleep(2 * time.Second)
		if d := w.Device("garage-zwave"); d.State != registry.StateAway {
			t.Errorf("unplugged, yet %v", d.State)
		}
		moved := bridgetest.Zwave
		moved.Path = "/dev/ttyACM7"
		w.Set(func() { w.Present = []rule.Candidate{moved} })
		time.Sleep(5 * time.Second)
		if d := w.Device("garage-zwave"); d.State != registry.StateInUse {
			t.Errorf("plugged in again, yet %v", d.State)
		}
		if _, err := r.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(moved.Path).ToDevice.Read), 5); err != nil || string(have) != "hello" {
			t.Errorf("%q, %v", have, err)
		}
		_ = r.Close()
	})
}

func TestFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		port := w.Port(bridgetest.Zwave.Path)
		w.Set(func() { w.Broken = errors.New("open port: permission denied") })
		port.Unplug(errors.New("input/output error"))
		time.Sleep(time.Minute)
		d := w.Device("garage-zwave")
		if d.State != registry.StateFault || !strings.Contains(d.Detail, "permission denied") {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		if w.Opens > 30 {
			t.Errorf("%d opens in a minute", w.Opens)
		}
		w.Set(func() { w.Broken = nil })
		time.Sleep(10 * time.Second)
		if d := w.Device("garage-zwave"); d.State != registry.StateAvailable || d.Detail != "" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
	})
}

// TestUpdate: devices that the rules leave alone keep their port and session.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := bridgetest.USB("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "lab"}}
		w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, bridgetest.Zwave, lab)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		w.Publisher.Update(rule.Policy{})
		want := []string{"garage-zwave zwave 1-1 in-use"}
		if have := w.Published(); !reflect.DeepEqual(have, want) {
			t.Errorf("published %q, want %q", have, want)
		}
		rules[0].Name = "lab-2"
		w.Publisher.Update(rule.Policy{Rules: rules})
		if have := w.Published(); len(have) != 2 || have[1] != "lab-2 serial 1-3 available" {
			t.Errorf("published %q", have)
		}
		rules[0].Name = "lab"
		w.Publisher.Update(rule.Policy{Rules: rules})
		if have := w.Published(); len(have) != 2 || have[1] != "lab serial 1-3 available" {
			t.Errorf("published %q", have)
		}
		rules[0].Name = "bench"
		w.Publisher.Update(rule.Policy{Rules: rules})
		want = []string{"bench serial 1-3 available", want[0]}
		if have := w.Published(); !reflect.DeepEqual(have, want) {
			t.Errorf("published %q, want %q", have, want)
		}
		if w.Opens != 5 {
			t.Errorf("%d opens, want 5: two at first, and one for each name", w.Opens)
		}
		_ = r.Close()
	})
}

// TestUpdatePolicy: what is published, labels and profiles change under a session
// that goes on.
func TestUpdatePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := bridgetest.USB("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll, Labels: map[string]string{"zone": "garage"}, Profiles: bridgetest.Boards[:1]}, bridgetest.Pinned, lab)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-board", use.TakeNormal)
		before := []string{"garage-board board 2-1 in-use", "garage-serial serial 1-3 available"}
		if have := w.Published(); !reflect.DeepEqual(have, before) {
			t.Errorf("published %q, want %q", have, before)
		}
		if d := w.Device("garage-board"); d.Labels["zone"] != "garage" {
			t.Errorf("a device that no rule names has labels %v", d.Labels)
		}
		known := bridgetest.Boards[0]
		known.Recipes = append(slices.Clone(known.Recipes), profile.Recipe{Name: "run", Steps: []profile.Step{{DTR: line.DriveOn}}})
		w.Publisher.Update(rule.Policy{Labels: map[string]string{"zone": "shed"}, Profiles: []profile.Profile{known}})
		if have := w.Published(); !reflect.DeepEqual(have, before[:1]) {
			t.Errorf("published %q, want %q", have, before[:1])
		}
		d := w.Device("garage-board")
		if d.Labels["zone"] != "shed" || !slices.Contains(d.Capabilities, "reset:run") {
			t.Errorf("labels %v, capabilities %v", d.Labels, d.Capabilities)
		}
		if w.Opens != 2 {
			t.Errorf("%d opens, want 2: nothing that changed is of the port", w.Opens)
		}
		if _, err := r.Write([]byte("on")); err != nil {
			t.Fatal(err)
		}
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Pinned.Path).ToDevice.Read), 2); err != nil || string(have) != "on" {
			t.Errorf("the session: %q, %v", have, err)
		}
		w.Publisher.Update(rule.Policy{Publish: rule.PublishListed})
		synctest.Wait()
		if s := r.(interface{ Status() use.Status }).Status(); !errors.Is(s.Err, session.CodeWithdrawn) {
			t.Errorf("the consumer is told %v", s.Err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || len(w.Published()) != 0 {
			t.Errorf("withdrawn: %v, published %q", err, w.Published())
		}
		_ = r.Close()
	})
}
