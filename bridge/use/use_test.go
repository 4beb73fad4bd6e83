package use_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// TestKickedWaitsPolitely: who was kicked cannot kick back, and comes back by
// itself when the holder releases.
func TestKickedWaitsPolitely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Hold: time.Minute}, bridgetest.Zwave)
		defer w.Close()
		first, second := w.Consumer(1, 0), w.Consumer(2, 0)
		one := w.OpenRaw(first, "garage-zwave", use.TakeNormal)
		two := w.OpenRaw(second, "garage-zwave", use.TakeNormal)
		time.Sleep(30 * time.Second)
		if d := w.Device("garage-zwave"); d.User != second.ID {
			t.Errorf("used by %v", d.User)
		}
		_ = two.Close()
		time.Sleep(3 * time.Second)
		if d := w.Device("garage-zwave"); d.User != first.ID {
			t.Errorf("after the release used by %v, %v", d.User, d.State)
		}
		if _, err := one.Write([]byte("on")); err != nil {
			t.Error(err)
		}
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 2); err != nil || string(have) != "on" {
			t.Errorf("%q, %v", have, err)
		}
		_ = one.Close()
	})
}

func TestHoldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		n := w.Consumer(1, 0)
		r := w.OpenRaw(n, "garage-zwave", use.TakeNormal)
		w.Set(func() { w.Down = true })
		began := time.Now()
		w.Cut()
		time.Sleep(session.DefaultHold - time.Second)
		if d := w.Device("garage-zwave"); d.State != registry.StateInUse {
			t.Errorf("released before hold: %v", d.State)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after hold: %v", err)
		}
		if took := time.Since(began); took < session.DefaultHold || took > session.DefaultHold+time.Second {
			t.Errorf("hung up after %v", took)
		}
		time.Sleep(time.Second)
		if d := w.Device("garage-zwave"); d.State != registry.StateAvailable {
			t.Errorf("not released after hold: %v", d.State)
		}
		_ = r.Close()
	})
}

// TestSilentPeer: a stream that neither breaks nor carries anything is given
// up, and the session goes on with another.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		time.Sleep(time.Hour) // an idle session lives on its pings
		if s := w.Publisher.Sessions(); len(s) != 1 || s[0].Resumed != 0 {
			t.Errorf("after an idle hour: %+v", s)
		}
		w.Freeze()
		if _, err := r.Write([]byte("through")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 7)
		if err != nil || string(have) != "through" {
			t.Errorf("%q, %v", have, err)
		}
		if took := time.Since(began); took > session.DeadAfter+time.Second {
			t.Errorf("took %v", took)
		}
		_ = r.Close()
	})
}

// TestConsumerNoticesFirst: the consumer comes back on a new stream while the
// owner still believes in the old one.
func TestConsumerNoticesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, bridgetest.Refusing(), bridgetest.Zwave)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		port := w.Port(bridgetest.Zwave.Path)
		for range 5 {
			w.Set(func() {
				s := w.Streams[len(w.Streams)-1]
				s.Out.Vanish()
			})
			if _, err := r.Write([]byte("down")); err != nil {
				t.Fatal(err)
			}
			if _, err := port.FromDevice.Write([]byte("up")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			w.Set(func() { w.Streams[len(w.Streams)-1].In.Close(bridgetest.ErrCut, true) })
			began := time.Now()
			if have, err := bridgetest.ReadExactly(r, 2); err != nil || string(have) != "up" {
				t.Errorf("application got %q, %v", have, err)
			}
			if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(port.ToDevice.Read), 4); err != nil || string(have) != "down" {
				t.Errorf("device got %q, %v", have, err)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("took %v", took)
			}
			time.Sleep(10 * time.Second)
		}
		if s := w.Publisher.Sessions(); len(s) != 1 || s[0].Resumed != 5 || s[0].Lost != 0 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}

// TestOwnerRestart: the new owner knows nothing of the session; what it may
// not have delivered is a gap, told on both sides, and not sent again.
func TestOwnerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		n := w.Consumer(1, 0)
		r := w.OpenRaw(n, "garage-zwave", use.TakeNormal)
		w.Set(func() { w.Down = true })
		w.Cut()
		if _, err := r.Write([]byte("lost with the old owner")); err != nil {
			t.Fatal(err)
		}
		w.RestartOwner(publish.Config{})
		w.Set(func() { w.Down = false })
		w.Changed()
		time.Sleep(3 * time.Second)
		if _, err := r.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 3)
		if err != nil || string(have) != "new" {
			t.Errorf("%q, %v", have, err)
		}
		if s := w.Publisher.Sessions(); len(s) != 1 || s[0].Lost != 23 {
			t.Errorf("the owner was not told of 23 lost bytes: %+v", s)
		}
		_ = r.Close()
		synctest.Wait()
		if logs := w.Logs(); !strings.Contains(logs, `msg="bytes of the device were lost" node="consumer 1" device=garage-zwave lost=0 unknown=true`) {
			t.Errorf("the consumer was not told that there is a gap of unknown size")
		}
	})
}
