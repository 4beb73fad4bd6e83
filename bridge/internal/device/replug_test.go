package device_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// TestSessionOutlivesPort: the session goes on across a replug: what the
// driver had and the device may not have got is counted, the rest arrives once.
func TestSessionOutlivesPort(t *testing.T) {
	elsewhere := bridgetest.Zwave
	elsewhere.Path, elsewhere.Hardware.Port = "/dev/ttyACM7", "1-4"
	for _, test := range []struct {
		name        string
		taken, sent int // of what was written before: by the device, and by the application
		back        rule.Candidate
	}{
		{"everything had arrived", 100, 100, bridgetest.Zwave},
		{"some was in the driver", 60, 100, bridgetest.Zwave},
		{"the driver was full", 1000, 20000, bridgetest.Zwave},
		{"as another tty at another port", 60, 100, elsewhere},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
				defer w.Close()
				r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
				first, port := w.Only(), w.Port(bridgetest.Zwave.Path)
				data := bridgetest.Noise(1, 30000)
				if _, err := r.Write(data[:test.sent]); err != nil {
					t.Fatal(err)
				}
				have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(port.ToDevice.Read), test.taken)
				if err != nil || string(have) != string(data[:test.taken]) {
					t.Fatal("the device did not get what was written", err)
				}
				time.Sleep(time.Second) // the driver is asked
				inDriver := port.ToDevice.Len()
				w.Unplug()
				time.Sleep(2 * time.Second)
				if d := w.Device("garage-zwave"); d.State != registry.StateAway || !strings.Contains(d.Detail, "held") {
					t.Errorf("unplugged: %v, %q", d.State, d.Detail)
				}
				if _, err := r.Write(data[test.sent:]); err != nil {
					t.Fatal(err)
				}
				w.Plug(test.back)
				time.Sleep(2 * time.Second)
				arrived := min(test.sent, test.taken+inDriver)
				have, err = bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(test.back.Path).ToDevice.Read), len(data)-arrived)
				if err != nil || string(have) != string(data[arrived:]) {
					t.Error("the device did not get the rest, once", err)
				}
				s := w.Only()
				// What a blocked write has handed over is only known when it ends.
				atMost := uint64(inDriver)
				if test.sent > 4096 {
					atMost += uint64(test.taken)
				}
				if s.ID != first.ID || s.Resumed != 0 || s.Lost < uint64(inDriver) || s.Lost > atMost {
					t.Errorf("%+v, want %d to %d lost", s, inDriver, atMost)
				}
				if _, err := w.Port(test.back.Path).FromDevice.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if have, err := bridgetest.ReadExactly(r, 5); err != nil || string(have) != "hello" {
					t.Errorf("%q, %v", have, err)
				}
				_ = r.Close()
			})
		})
	}
}

// TestReplugWhileNobodyReads: what was read from the old port and not yet taken
// by the consumer comes before what the new port brings.
func TestReplugWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Window: 1024}, bridgetest.Zwave)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		data := bridgetest.Noise(1, 1<<20)
		port := w.Port(bridgetest.Zwave.Path)
		w.Running.Go(func() { _, _ = port.FromDevice.Write(data) })
		synctest.Wait() // the reader of the port waits for the consumer
		lost := port.FromDevice.Len()
		sent := uint64(0)
		for _, s := range w.Publisher.Sessions() {
			sent = s.Sent
		}
		if sent == 0 || lost == 0 {
			t.Fatalf("%d sent, %d in the driver", sent, lost)
		}
		w.Unplug()
		w.Plug(bridgetest.Zwave) // before anybody looked
		time.Sleep(2 * time.Second)
		back := w.Port(bridgetest.Zwave.Path)
		w.Running.Go(func() { _, _ = back.FromDevice.Write([]byte("after")) })
		if _, err := r.Write([]byte("down")); err != nil { // goes to the new port meanwhile
			t.Fatal(err)
		}
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 4); err != nil || string(have) != "down" {
			t.Errorf("%q, %v", have, err)
		}
		all := make([]byte, 0, len(data))
		for !strings.HasSuffix(string(all), "after") {
			var buf [4096]byte
			n, err := r.Read(buf[:])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, buf[:n]...)
		}
		if old := all[:len(all)-5]; string(old) != string(data[:len(old)]) {
			t.Error("the bytes of the old port are not what it sent")
		}
		_ = r.Close()
	})
}

// TestEverythingSetAgain: line settings of the session and outputs as last set.
func TestEverythingSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []rule.Rule{{Match: rule.Match{VID: "303a"}, Name: "lab", DTR: line.DriveOff, RTS: line.DriveOff}}
		w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, bridgetest.Pinned)
		defer w.Close()
		c := w.DialOwner(session.Open{Device: "lab", Take: session.TakeNormal, Line: "57600e71"})
		c.Control(session.Control{Kind: session.KindModem, Mask: uint64(line.ModemOutputs), Bits: uint64(line.RTS)})
		c.Control(session.Control{Kind: session.KindLine, Line: "9600n82"})
		synctest.Wait()
		w.Unplug()
		c.Write([]byte("x"))
		time.Sleep(time.Second)
		w.Plug(bridgetest.Pinned)
		time.Sleep(3 * time.Second)
		spec := w.Port(bridgetest.Pinned.Path).Spec()
		if spec.Line.String() != "9600n82" || spec.DTR != line.DriveOff || spec.RTS != line.DriveOn {
			t.Errorf("opened with %+v", spec)
		}
		c.Close()
		// The next session has the device's own settings again.
		c = w.DialOwner(session.Open{Device: "lab", Take: session.TakeNormal})
		if have := w.Port(bridgetest.Pinned.Path).Line().String(); have != "115200n81" {
			t.Errorf("the next session has %v", have)
		}
		c.Close()
	})
}

// TestHoldOfAway: a session does not wait for ever.
func TestHoldOfAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []rule.Rule{{Match: rule.Match{VID: "0658"}, Hold: 4 * time.Second}}
		w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, bridgetest.Zwave)
		defer w.Close()
		c := w.DialOwner(session.Open{Device: "garage-zwave", Take: session.TakeNormal})
		w.Unplug()
		began := time.Now()
		if err := <-c.Ended; !errors.Is(err, session.CodeGone) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(began); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("ended after %v", took)
		}
		if d := w.Device("garage-zwave"); d.State != registry.StateAway || d.Detail != "unplugged" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		c.Close()
	})
}
