package bridge_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// TestReadAlong: a read-only session hears the device beside its holder,
// changes nothing and makes nobody wait.
func TestReadAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := refusing()
		config.Window = 8192
		config.Rules[0].Allow = []identity.NodeID{{1}}
		config.Rules[0].AllowRead = []identity.NodeID{{2}}
		w := newWorld(t, config, zwave)
		defer w.close()
		read := session.Open{Device: "garage-zwave", ReadOnly: true, Line: "9600n81"}
		synctest.Wait()
		for n, want := range map[byte]error{2: nil, 3: session.CodeRefused} {
			p, err := w.tryOwner(identity.NodeID{n}, read)
			if !errors.Is(err, want) {
				t.Errorf("node %d reads: %v, want %v", n, err, want)
			}
			if err == nil {
				p.close()
			}
		}
		write := session.Open{Device: "garage-zwave", Take: session.TakeForce}
		if _, err := w.tryOwner(identity.NodeID{2}, write); !errors.Is(err, session.CodeRefused) {
			t.Errorf("who may read opens to write: %v", err)
		}
		reader, err := w.tryOwner(identity.NodeID{2}, read)
		if err != nil {
			t.Fatal(err)
		}
		if d := w.device("garage-zwave"); d.State != registry.StateAvailable || d.Detail != "read along by 1" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		writer := w.as(1)
		port := w.port(zwave.Path)
		reader.write([]byte("not for the device"))
		reader.control(session.Control{Kind: session.KindLine, Line: "300n81"})
		reader.control(session.Control{Kind: session.KindPurge, Bits: session.PurgeReceive | session.PurgeTransmit})
		writer.write([]byte("for the device"))
		if have, err := readExactly(readFunc(port.toDevice.read), 14); err != nil || string(have) != "for the device" {
			t.Errorf("the device got %q, %v", have, err)
		}
		if have := port.Line().String(); have != "115200n81" {
			t.Errorf("the line is %v", have)
		}
		if have := last(writer.told(session.KindUsers)); !strings.HasSuffix(have, "(reads along)") {
			t.Errorf("the writer was told of %q", have)
		}
		reader.mu.Lock()
		reader.deaf = true
		reader.mu.Unlock()
		data := noise(1, 50000)
		w.running.Go(func() { _, _ = port.fromDevice.write(data) })
		time.Sleep(time.Second)
		if writer.got() != string(data) {
			t.Error("the writer missed something")
		}
		if have := reader.got(); have == "" || have != string(data[:len(have)]) || len(have) > 8192 {
			t.Errorf("the reader got %d bytes", len(have))
		}
		writer.close()
		if d := w.device("garage-zwave"); d.State != registry.StateAvailable {
			t.Errorf("%v", d.State)
		}
		reader.close()
	})
}

// TestCutWhileAway: the device and the path are lost together and come back one
// after the other; the session is the same.
func TestCutWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		first := w.only()
		for _, pathFirst := range []bool{true, false} {
			w.unplug()
			w.set(func() { w.down = true })
			w.cut()
			if _, err := r.Write([]byte("meanwhile")); err != nil {
				t.Fatal(err)
			}
			back := []func(){
				func() { w.plug(zwave) },
				func() { w.set(func() { w.down = false }); w.changed() },
			}
			if pathFirst {
				back[0], back[1] = back[1], back[0]
			}
			for _, f := range back {
				time.Sleep(3 * time.Second)
				f()
			}
			time.Sleep(3 * time.Second)
			if have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 9); err != nil || string(have) != "meanwhile" {
				t.Errorf("%q, %v", have, err)
			}
			time.Sleep(time.Second)
		}
		if s := w.only(); s.ID != first.ID || s.Resumed != 2 || s.Lost != 0 || s.Gaps != 2 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}
