package inventory_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// TestTwins: sticks of one serial number keep their names by their ports,
// also when one of them is unplugged.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := bridgetest.USB("/dev/ttyUSB0", "10c4", "ea60", "0001", "1-1"), bridgetest.USB("/dev/ttyUSB1", "10c4", "ea60", "0001", "1-2")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "meter"}}
		w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, a)
		defer w.Close()
		for _, step := range []struct {
			there []rule.Candidate
			want  []string
		}{
			{[]rule.Candidate{a, b}, []string{"meter serial 1-1 available", "meter-2 serial 1-2 available"}},
			{[]rule.Candidate{b}, []string{"meter serial 1-1 away", "meter-2 serial 1-2 available"}},
			{[]rule.Candidate{b, a}, []string{"meter serial 1-1 available", "meter-2 serial 1-2 available"}},
		} {
			w.Set(func() { w.Present = step.there })
			time.Sleep(2 * time.Second)
			if have := w.Published(); !reflect.DeepEqual(have, step.want) {
				t.Errorf("published %q, want %q", have, step.want)
			}
		}
	})
}

// TestSameStick: which stick is which when there is no serial number.
func TestSameStick(t *testing.T) {
	stick := func(n, port string) rule.Candidate { return bridgetest.USB("/dev/ttyACM"+n, "0658", "0200", "", port) }
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{})
		defer w.Close()
		for _, step := range []struct {
			what  string
			wait  time.Duration
			there []rule.Candidate
			want  []string
		}{
			{"one", 0, []rule.Candidate{stick("0", "1-1")}, []string{"garage-zwave zwave 1-1 available"}},
			{"unplugged", time.Hour, nil, []string{"garage-zwave zwave 1-1 away"}},
			{"at another port", 0, []rule.Candidate{stick("0", "1-2")}, []string{"garage-zwave zwave 1-2 available"}},
			{"a second", 0, []rule.Candidate{stick("0", "1-2"), stick("1", "1-3")},
				[]string{"garage-zwave zwave 1-2 available", "garage-zwave-2 zwave 1-3 available"}},
			{"both unplugged", time.Second, nil, []string{"garage-zwave zwave 1-2 away", "garage-zwave-2 zwave 1-3 away"}},
			{"and back in another order", 0, []rule.Candidate{stick("0", "1-3"), stick("1", "1-2")},
				[]string{"garage-zwave zwave 1-2 available", "garage-zwave-2 zwave 1-3 available"}},
			{"one unplugged", time.Second, []rule.Candidate{stick("0", "1-3")},
				[]string{"garage-zwave zwave 1-2 away", "garage-zwave-2 zwave 1-3 available"}},
			{"and soon at another port", 0, []rule.Candidate{stick("0", "1-3"), stick("1", "1-4")},
				[]string{"garage-zwave zwave 1-4 available", "garage-zwave-2 zwave 1-3 available"}},
			{"unplugged for long", time.Hour, []rule.Candidate{stick("0", "1-3")},
				[]string{"garage-zwave zwave 1-4 away", "garage-zwave-2 zwave 1-3 available"}},
			{"a third, or is it", 0, []rule.Candidate{stick("0", "1-3"), stick("1", "1-5")},
				[]string{"garage-zwave zwave 1-4 away", "garage-zwave-2 zwave 1-3 available", "garage-zwave-3 zwave 1-5 available"}},
		} {
			w.Plug(step.there...)
			time.Sleep(2*time.Second + step.wait)
			if have := w.Published(); !reflect.DeepEqual(have, step.want) {
				t.Errorf("%s: published %q, want %q", step.what, have, step.want)
			}
		}
	})
}

// TestLeftAlone: what must not be opened is not, and the reason is shown.
func TestLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		console := rule.Candidate{Path: "/dev/ttyS0", Skip: "console"}
		empty := rule.Candidate{Path: "/dev/ttyS1", Skip: "no hardware"}
		rules := []rule.Rule{{Match: rule.Match{Path: console.Path}, Name: "con"}}
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll, Rules: rules}, console, empty)
		defer w.Close()
		d := w.Device("con")
		if d.State != registry.StateFault || d.Detail != "left alone: console" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		time.Sleep(time.Minute)
		if have := w.Published(); len(have) != 1 || w.Opens != 0 {
			t.Errorf("published %q, %d opens", have, w.Opens)
		}
		if have := w.Publisher.Ignored(); !reflect.DeepEqual(have, []rule.Candidate{empty}) {
			t.Errorf("ignored %+v", have)
		}
		if _, err := w.Consumer(1, 0).Attacher.OpenRaw(context.Background(), "con", use.TakeForce); !errors.Is(err, session.CodeGone) {
			t.Error(err)
		}
	})
}
