package device_test

import (
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

// TestSlowReader: who does not read stalls itself only, and loses nothing.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zigbee := rule.Candidate{Path: "/dev/ttyACM1", Hardware: registry.Hardware{VID: "1cf1", PID: "0030", Port: "1-2"}}
		w := bridgetest.NewWorld(t, publish.Config{Window: 8192}, bridgetest.Zwave, zigbee)
		defer w.Close()
		n := w.Consumer(1, 0)
		slow := w.OpenRaw(n, "garage-zwave", use.TakeNormal)
		fast := w.OpenRaw(n, "garage-zigbee", use.TakeNormal)
		data := bridgetest.Noise(1, 1<<20)
		w.Running.Go(func() { _, _ = w.Ports[bridgetest.Zwave.Path].FromDevice.Write(data) })
		synctest.Wait() // everything between is full
		other := bridgetest.Noise(2, 1<<20)
		w.Running.Go(func() { _, _ = w.Ports[zigbee.Path].FromDevice.Write(other) })
		began := time.Now()
		if have, err := bridgetest.ReadExactly(fast, len(other)); err != nil || string(have) != string(other) {
			t.Error("the fast session lost bytes", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the fast session took %v", took)
		}
		time.Sleep(time.Minute) // the slow session's stream lives all the time
		if have, err := bridgetest.ReadExactly(slow, len(data)); err != nil || string(have) != string(data) {
			t.Error("the slow session lost bytes", err)
		}
		for _, s := range w.Publisher.Sessions() {
			if s.Resumed != 0 {
				t.Errorf("%+v", s)
			}
		}
		_ = slow.Close()
		_ = fast.Close()
	})
}

// TestNothingFromBefore: bytes of the device from before an open, or from the
// session of somebody else, are not delivered.
func TestNothingFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		port := w.Port(bridgetest.Zwave.Path)
		if _, err := port.FromDevice.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		first, second := w.Consumer(1, 0), w.Consumer(2, 0)
		one := w.OpenRaw(first, "garage-zwave", use.TakeNormal)
		if _, err := port.FromDevice.Write([]byte("one")); err != nil {
			t.Fatal(err)
		}
		if have, err := bridgetest.ReadExactly(one, 3); err != nil || string(have) != "one" {
			t.Errorf("first got %q, %v", have, err)
		}
		two := w.OpenRaw(second, "garage-zwave", use.TakeNormal)
		if _, err := port.FromDevice.Write([]byte("two")); err != nil {
			t.Fatal(err)
		}
		if have, err := bridgetest.ReadExactly(two, 3); err != nil || string(have) != "two" {
			t.Errorf("second got %q, %v", have, err)
		}
		_ = one.Close()
		_ = two.Close()
	})
}

// TestServeRefusesJunk: whoever does not keep to the protocol is told so, and
// nothing of it reaches a device.
// TestNothingTakenBefore: what the reader of the port has taken from the driver and
// not yet handed on when a session begins is not for that session; one that had
// the device then gets it.
func TestNothingTakenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		port := w.Port(bridgetest.Zwave.Path)
		watcher, err := w.TryOwner(identity.NodeID{3}, session.Open{Device: "garage-zwave", ReadOnly: true, Kind: "pty"})
		if err != nil {
			t.Fatal(err)
		}
		taken, letGo := port.Slow()
		if _, err := port.FromDevice.Write([]byte("stale ")); err != nil {
			t.Fatal(err)
		}
		<-taken
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		if _, err := port.FromDevice.Write([]byte("fresh")); err != nil {
			t.Fatal(err)
		}
		close(letGo)
		have, err := bridgetest.ReadExactly(r, 5)
		if err != nil || string(have) != "fresh" {
			t.Errorf("the new session got %q, %v", have, err)
		}
		synctest.Wait()
		if have := watcher.Got(); have != "stale fresh" {
			t.Errorf("who read along before got %q", have)
		}
		_ = r.Close()
		watcher.Close()
	})
}
