package device_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func TestArbitration(t *testing.T) {
	tests := []struct {
		name   string
		config publish.Config
		take   use.Take
		want   error // nil: the second gets the device
	}{
		{"kick, normal", publish.Config{}, use.TakeNormal, nil},
		{"kick, polite", publish.Config{}, use.TakePolite, session.CodeBusy},
		{"kick, force", publish.Config{}, use.TakeForce, nil},
		{"refuse, normal", bridgetest.Refusing(), use.TakeNormal, session.CodeBusy},
		{"refuse, polite", bridgetest.Refusing(), use.TakePolite, session.CodeBusy},
		{"refuse, force", bridgetest.Refusing(), use.TakeForce, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, test.config, bridgetest.Zwave)
				defer w.Close()
				first, second := w.Consumer(1, 0), w.Consumer(2, 0)
				r := w.OpenRaw(first, "garage-zwave", use.TakeNormal)
				defer r.Close()
				other, err := second.Attacher.OpenRaw(context.Background(), "garage-zwave", test.take)
				if !errors.Is(err, test.want) {
					t.Fatalf("%v, want %v", err, test.want)
				}
				holder := first
				if err == nil {
					holder = second
					defer other.Close()
				} else if !strings.Contains(err.Error(), first.ID.Short()) {
					t.Errorf("the refusal does not say who holds it: %v", err)
				}
				if d := w.Device("garage-zwave"); d.State != registry.StateInUse || d.User != holder.ID {
					t.Errorf("%v, used by %v", d.State, d.User)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := bridgetest.Refusing()
		config.Rules[0].Allow = []identity.NodeID{{1}}
		w := bridgetest.NewWorld(t, config, bridgetest.Zwave)
		defer w.Close()
		allowed, stranger := w.Consumer(1, 0), w.Consumer(2, 0)
		for name, want := range map[string]error{
			"garage-zwave": session.CodeRefused, "garage-zigbee": session.CodeNotFound, "nowhere": registry.ErrNotFound,
		} {
			if _, err := stranger.Attacher.OpenRaw(context.Background(), name, use.TakeForce); !errors.Is(err, want) {
				t.Errorf("open %q: %v, want %v", name, err, want)
			}
		}
		_ = w.OpenRaw(allowed, "garage-zwave", use.TakeNormal).Close()
		said := func() int {
			return strings.Count(w.Logs(), `msg="open refused, it is not allowed" node=owner device=garage-zwave node=`+stranger.ID.String())
		}
		for _, read := range []bool{false, true} {
			_, err := w.TryOwner(stranger.ID, session.Open{Device: "garage-zwave", ReadOnly: read})
			key := map[bool]string{false: "add it to allow of", true: "add it to allow_read of"}[read]
			if !errors.Is(err, session.CodeRefused) || !strings.Contains(err.Error(), stranger.ID.String()) || !strings.Contains(err.Error(), key) {
				t.Errorf("the stranger was told: %v", err)
			}
		}
		if said() != 1 {
			t.Errorf("the owner's log says it %d times", said())
		}
		w.Publisher.Update(rule.Policy{Rules: []rule.Rule{{Match: rule.Match{VID: "0658"}, Allow: []identity.NodeID{{3}}}}})
		synctest.Wait()
		if _, err := w.TryOwner(stranger.ID, session.Open{Device: "garage-zwave"}); !errors.Is(err, session.CodeRefused) || said() != 2 {
			t.Errorf("under another rule: %v, said %d times", err, said())
		}
	})
}

// TestHoldOfRule: both ends keep a session for as long as the device's rule says,
// whatever the consumer was made with.
func TestHoldOfRule(t *testing.T) {
	for _, hold := range []time.Duration{3 * time.Second, 90 * time.Second} {
		t.Run(hold.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules := []rule.Rule{{Match: rule.Match{VID: "0658"}, Hold: hold}}
				w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, bridgetest.Zwave)
				defer w.Close()
				r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
				w.Set(func() { w.Down = true })
				w.Cut()
				time.Sleep(hold - time.Second)
				w.Set(func() { w.Down = false })
				w.Changed()
				if _, err := r.Write([]byte("a")); err != nil {
					t.Fatal(err)
				}
				if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 1); err != nil || string(have) != "a" {
					t.Fatalf("back before the end of hold: %q, %v", have, err)
				}
				w.Set(func() { w.Down = true })
				began := time.Now()
				w.Cut()
				if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("read after hold: %v", err)
				}
				if took := time.Since(began); took < hold || took > hold+time.Second {
					t.Errorf("hung up after %v, the rule says %v", took, hold)
				}
				_ = r.Close()
			})
		})
	}
}

// TestWriterAfterReader: who reads along does not keep the first writer from
// its line settings.
func TestWriterAfterReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		synctest.Wait()
		watcher, err := w.TryOwner(identity.NodeID{3}, session.Open{Device: "garage-zwave", ReadOnly: true, Kind: "monitor"})
		if err != nil {
			t.Fatal(err)
		}
		writer := w.DialOwner(session.Open{Device: "garage-zwave", Take: session.TakeNormal, Line: "9600e71"})
		if have := w.Port(bridgetest.Zwave.Path).Line().String(); have != "9600e71" || writer.Accept.Line != have {
			t.Errorf("the port has %s, ACCEPT says %s", have, writer.Accept.Line)
		}
		second := w.DialOwner(session.Open{Device: "garage-zwave", Take: session.TakeForce})
		if have := second.Accept.Line; have != "115200n81" {
			t.Errorf("who took it began with %s", have)
		}
		watcher.Close()
		writer.Close()
		second.Close()
	})
}
