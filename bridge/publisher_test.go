package bridge_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

func usb(path, vid, pid, serial, port string) rule.Candidate {
	return rule.Candidate{Path: path, Hardware: registry.Hardware{VID: vid, PID: pid, Serial: serial, Port: port}}
}

// published lists what the registry was told, as "name kind path-or-port state".
func (w *world) published() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, d := range w.devices {
		all = append(all, fmt.Sprintf("%s %s %s%s %v", d.Name, d.Kind, d.Hardware.Path, d.Hardware.Port, d.State))
	}
	return all
}

func TestWhatIsPublished(t *testing.T) {
	stick := usb("/dev/ttyACM0", "0658", "0200", "", "1-1")
	twin := usb("/dev/ttyACM1", "0658", "0200", "", "1-2")
	bridgeChip := usb("/dev/ttyUSB0", "10C4", "ea60", "abc", "1-3")
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
				w := newWorld(t, bridge.PublisherConfig{Publish: test.publish, Rules: test.rules}, test.there...)
				defer w.close()
				if have := w.published(); !reflect.DeepEqual(have, test.want) {
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
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		w.set(func() { w.present = nil })
		w.port(zwave.Path).unplug(errors.New("input/output error"))
		time.Sleep(2 * time.Second)
		if d := w.device("garage-zwave"); d.State != registry.StateAway {
			t.Errorf("unplugged, yet %v", d.State)
		}
		moved := zwave
		moved.Path = "/dev/ttyACM7"
		w.set(func() { w.present = []rule.Candidate{moved} })
		time.Sleep(5 * time.Second)
		if d := w.device("garage-zwave"); d.State != registry.StateInUse {
			t.Errorf("plugged in again, yet %v", d.State)
		}
		if _, err := r.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if have, err := readExactly(readFunc(w.port(moved.Path).toDevice.read), 5); err != nil || string(have) != "hello" {
			t.Errorf("%q, %v", have, err)
		}
		_ = r.Close()
	})
}

func TestFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		port := w.port(zwave.Path)
		w.set(func() { w.broken = errors.New("open port: permission denied") })
		port.unplug(errors.New("input/output error"))
		time.Sleep(time.Minute)
		d := w.device("garage-zwave")
		if d.State != registry.StateFault || !strings.Contains(d.Detail, "permission denied") {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		if w.opens > 30 {
			t.Errorf("%d opens in a minute", w.opens)
		}
		w.set(func() { w.broken = nil })
		time.Sleep(10 * time.Second)
		if d := w.device("garage-zwave"); d.State != registry.StateAvailable || d.Detail != "" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
	})
}

// TestUpdate: devices that the rules leave alone keep their port and session.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := usb("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "lab"}}
		w := newWorld(t, bridge.PublisherConfig{Rules: rules}, zwave, lab)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		w.publisher.Update(rule.Policy{})
		want := []string{"garage-zwave zwave 1-1 in-use"}
		if have := w.published(); !reflect.DeepEqual(have, want) {
			t.Errorf("published %q, want %q", have, want)
		}
		rules[0].Name = "lab-2"
		w.publisher.Update(rule.Policy{Rules: rules})
		if have := w.published(); len(have) != 2 || have[1] != "lab-2 serial 1-3 available" {
			t.Errorf("published %q", have)
		}
		rules[0].Name = "lab"
		w.publisher.Update(rule.Policy{Rules: rules})
		if have := w.published(); len(have) != 2 || have[1] != "lab serial 1-3 available" {
			t.Errorf("published %q", have)
		}
		rules[0].Name = "bench"
		w.publisher.Update(rule.Policy{Rules: rules})
		want = []string{"bench serial 1-3 available", want[0]}
		if have := w.published(); !reflect.DeepEqual(have, want) {
			t.Errorf("published %q, want %q", have, want)
		}
		if w.opens != 5 {
			t.Errorf("%d opens, want 5: two at first, and one for each name", w.opens)
		}
		_ = r.Close()
	})
}

// TestUpdatePolicy: what is published, labels and profiles change under a session
// that goes on.
func TestUpdatePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := usb("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll, Labels: map[string]string{"zone": "garage"}, Profiles: boards[:1]}, pinned, lab)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-board", use.TakeNormal)
		before := []string{"garage-board board 2-1 in-use", "garage-serial serial 1-3 available"}
		if have := w.published(); !reflect.DeepEqual(have, before) {
			t.Errorf("published %q, want %q", have, before)
		}
		if d := w.device("garage-board"); d.Labels["zone"] != "garage" {
			t.Errorf("a device that no rule names has labels %v", d.Labels)
		}
		known := boards[0]
		known.Recipes = append(slices.Clone(known.Recipes), profile.Recipe{Name: "run", Steps: []profile.Step{{DTR: line.DriveOn}}})
		w.publisher.Update(rule.Policy{Labels: map[string]string{"zone": "shed"}, Profiles: []profile.Profile{known}})
		if have := w.published(); !reflect.DeepEqual(have, before[:1]) {
			t.Errorf("published %q, want %q", have, before[:1])
		}
		d := w.device("garage-board")
		if d.Labels["zone"] != "shed" || !slices.Contains(d.Capabilities, "reset:run") {
			t.Errorf("labels %v, capabilities %v", d.Labels, d.Capabilities)
		}
		if w.opens != 2 {
			t.Errorf("%d opens, want 2: nothing that changed is of the port", w.opens)
		}
		if _, err := r.Write([]byte("on")); err != nil {
			t.Fatal(err)
		}
		if have, err := readExactly(readFunc(w.port(pinned.Path).toDevice.read), 2); err != nil || string(have) != "on" {
			t.Errorf("the session: %q, %v", have, err)
		}
		w.publisher.Update(rule.Policy{Publish: rule.PublishListed})
		synctest.Wait()
		if s := r.(interface{ Status() use.Status }).Status(); !errors.Is(s.Err, session.CodeWithdrawn) {
			t.Errorf("the consumer is told %v", s.Err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || len(w.published()) != 0 {
			t.Errorf("withdrawn: %v, published %q", err, w.published())
		}
		_ = r.Close()
	})
}

// TestTwins: sticks of one serial number keep their names by their ports,
// also when one of them is unplugged.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := usb("/dev/ttyUSB0", "10c4", "ea60", "0001", "1-1"), usb("/dev/ttyUSB1", "10c4", "ea60", "0001", "1-2")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "meter"}}
		w := newWorld(t, bridge.PublisherConfig{Rules: rules}, a)
		defer w.close()
		for _, step := range []struct {
			there []rule.Candidate
			want  []string
		}{
			{[]rule.Candidate{a, b}, []string{"meter serial 1-1 available", "meter-2 serial 1-2 available"}},
			{[]rule.Candidate{b}, []string{"meter serial 1-1 away", "meter-2 serial 1-2 available"}},
			{[]rule.Candidate{b, a}, []string{"meter serial 1-1 available", "meter-2 serial 1-2 available"}},
		} {
			w.set(func() { w.present = step.there })
			time.Sleep(2 * time.Second)
			if have := w.published(); !reflect.DeepEqual(have, step.want) {
				t.Errorf("published %q, want %q", have, step.want)
			}
		}
	})
}

func TestRuleCheck(t *testing.T) {
	path := rule.Match{Path: "/dev/ttyS0"}
	tests := []struct {
		name string
		rule rule.Rule
		ok   bool
	}{
		{"path", rule.Rule{Match: path}, true},
		{"no match", rule.Rule{Name: "x"}, false},
		{"name that does not parse", rule.Rule{Match: path, Name: "{{.Node"}, false},
		{"name of unknown fields", rule.Rule{Match: path, Name: "{{.Serial}}"}, false},
		{"line settings", rule.Rule{Match: path, Line: line.Settings{Baud: 9600, DataBits: 7, Parity: line.ParityEven}}, true},
		{"RS-485 delay", rule.Rule{Match: path, RS485: line.RS485{On: true, BeforeSend: time.Millisecond}}, true},
		{"RS-485 delay too long", rule.Rule{Match: path, RS485: line.RS485{On: true, AfterSend: time.Second}}, false},
		{"RS-485 delay too fine", rule.Rule{Match: path, RS485: line.RS485{On: true, AfterSend: time.Microsecond}}, false},
		{"half line settings", rule.Rule{Match: path, Line: line.Settings{Baud: 9600}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.rule.Check(); (err == nil) != test.ok {
				t.Fatal(err)
			}
		})
	}
}
