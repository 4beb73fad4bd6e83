package device_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// TestReadAlong: a read-only session hears the device beside its holder,
// changes nothing and makes nobody wait.
func TestReadAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := bridgetest.Refusing()
		config.Window = 8192
		config.Rules[0].Allow = []identity.NodeID{{1}}
		config.Rules[0].AllowRead = []identity.NodeID{{2}}
		w := bridgetest.NewWorld(t, config, bridgetest.Zwave)
		defer w.Close()
		read := session.Open{Device: "garage-zwave", ReadOnly: true, Line: "9600n81"}
		synctest.Wait()
		for n, want := range map[byte]error{2: nil, 3: session.CodeRefused} {
			p, err := w.TryOwner(identity.NodeID{n}, read)
			if !errors.Is(err, want) {
				t.Errorf("node %d reads: %v, want %v", n, err, want)
			}
			if err == nil {
				p.Close()
			}
		}
		write := session.Open{Device: "garage-zwave", Take: session.TakeForce}
		if _, err := w.TryOwner(identity.NodeID{2}, write); !errors.Is(err, session.CodeRefused) {
			t.Errorf("who may read opens to write: %v", err)
		}
		reader, err := w.TryOwner(identity.NodeID{2}, read)
		if err != nil {
			t.Fatal(err)
		}
		if d := w.Device("garage-zwave"); d.State != registry.StateAvailable || d.Detail != "read along by 1" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		writer := w.As(1)
		port := w.Port(bridgetest.Zwave.Path)
		reader.Write([]byte("not for the device"))
		reader.Control(session.Control{Kind: session.KindLine, Line: "300n81"})
		reader.Control(session.Control{Kind: session.KindPurge, Bits: session.PurgeReceive | session.PurgeTransmit})
		writer.Write([]byte("for the device"))
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(port.ToDevice.Read), 14); err != nil || string(have) != "for the device" {
			t.Errorf("the device got %q, %v", have, err)
		}
		if have := port.Line().String(); have != "115200n81" {
			t.Errorf("the line is %v", have)
		}
		if have := last(writer.Told(session.KindUsers)); !strings.HasSuffix(have, "(reads along)") {
			t.Errorf("the writer was told of %q", have)
		}
		reader.Deafen()
		data := bridgetest.Noise(1, 50000)
		w.Running.Go(func() { _, _ = port.FromDevice.Write(data) })
		time.Sleep(time.Second)
		if writer.Got() != string(data) {
			t.Error("the writer missed something")
		}
		if have := reader.Got(); have == "" || have != string(data[:len(have)]) || len(have) > 8192 {
			t.Errorf("the reader got %d bytes", len(have))
		}
		writer.Close()
		if d := w.Device("garage-zwave"); d.State != registry.StateAvailable {
			t.Errorf("%v", d.State)
		}
		reader.Close()
	})
}

// TestCutWhileAway: the device and the path are lost together and come back one
// after the other; the session is the same.
func TestCutWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		r := w.OpenRaw(w.Consumer(1, 0), "garage-zwave", use.TakeNormal)
		first := w.Only()
		for _, pathFirst := range []bool{true, false} {
			w.Unplug()
			w.Set(func() { w.Down = true })
			w.Cut()
			if _, err := r.Write([]byte("meanwhile")); err != nil {
				t.Fatal(err)
			}
			back := []func(){
				func() { w.Plug(bridgetest.Zwave) },
				func() { w.Set(func() { w.Down = false }); w.Changed() },
			}
			if pathFirst {
				back[0], back[1] = back[1], back[0]
			}
			for _, f := range back {
				time.Sleep(3 * time.Second)
				f()
			}
			time.Sleep(3 * time.Second)
			if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 9); err != nil || string(have) != "meanwhile" {
				t.Errorf("%q, %v", have, err)
			}
			time.Sleep(time.Second)
		}
		if s := w.Only(); s.ID != first.ID || s.Resumed != 2 || s.Lost != 0 || s.Gaps != 2 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}
