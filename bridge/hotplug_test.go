package bridge_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/internal/device"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

var errUnplugged = errors.New("input/output error")

// unplug takes all hardware away.
func (w *world) unplug() {
	w.mu.Lock()
	w.present = nil
	ports := w.ports
	w.ports = map[string]*memPort{}
	w.mu.Unlock()
	for _, p := range ports {
		p.unplug(errUnplugged)
	}
}

// plug makes the hardware be there.
func (w *world) plug(c ...rule.Candidate) { w.set(func() { w.present = c }) }

// only returns the one session there is.
func (w *world) only() device.SessionStatus {
	w.t.Helper()
	synctest.Wait()
	all := w.publisher.Sessions()
	if len(all) != 1 {
		w.t.Fatalf("sessions %+v", all)
	}
	return all[0]
}

// TestSessionOutlivesPort: the session goes on across a replug: what the
// driver had and the device may not have got is counted, the rest arrives once.
func TestSessionOutlivesPort(t *testing.T) {
	elsewhere := zwave
	elsewhere.Path, elsewhere.Hardware.Port = "/dev/ttyACM7", "1-4"
	for _, test := range []struct {
		name        string
		taken, sent int // of what was written before: by the device, and by the application
		back        rule.Candidate
	}{
		{"everything had arrived", 100, 100, zwave},
		{"some was in the driver", 60, 100, zwave},
		{"the driver was full", 1000, 20000, zwave},
		{"as another tty at another port", 60, 100, elsewhere},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bridge.PublisherConfig{}, zwave)
				defer w.close()
				r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
				first, port := w.only(), w.port(zwave.Path)
				data := noise(1, 30000)
				if _, err := r.Write(data[:test.sent]); err != nil {
					t.Fatal(err)
				}
				have, err := readExactly(readFunc(port.toDevice.read), test.taken)
				if err != nil || string(have) != string(data[:test.taken]) {
					t.Fatal("the device did not get what was written", err)
				}
				time.Sleep(time.Second) // the driver is asked
				inDriver := port.toDevice.len()
				w.unplug()
				time.Sleep(2 * time.Second)
				if d := w.device("garage-zwave"); d.State != registry.StateAway || !strings.Contains(d.Detail, "held") {
					t.Errorf("unplugged: %v, %q", d.State, d.Detail)
				}
				if _, err := r.Write(data[test.sent:]); err != nil {
					t.Fatal(err)
				}
				w.plug(test.back)
				time.Sleep(2 * time.Second)
				arrived := min(test.sent, test.taken+inDriver)
				have, err = readExactly(readFunc(w.port(test.back.Path).toDevice.read), len(data)-arrived)
				if err != nil || string(have) != string(data[arrived:]) {
					t.Error("the device did not get the rest, once", err)
				}
				s := w.only()
				// What a blocked write has handed over is only known when it ends.
				atMost := uint64(inDriver)
				if test.sent > 4096 {
					atMost += uint64(test.taken)
				}
				if s.ID != first.ID || s.Resumed != 0 || s.Lost < uint64(inDriver) || s.Lost > atMost {
					t.Errorf("%+v, want %d to %d lost", s, inDriver, atMost)
				}
				if _, err := w.port(test.back.Path).fromDevice.write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if have, err := readExactly(r, 5); err != nil || string(have) != "hello" {
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
		w := newWorld(t, bridge.PublisherConfig{Window: 1024}, zwave)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		data := noise(1, 1<<20)
		port := w.port(zwave.Path)
		w.running.Go(func() { _, _ = port.fromDevice.write(data) })
		synctest.Wait() // the reader of the port waits for the consumer
		lost := port.fromDevice.len()
		sent := uint64(0)
		for _, s := range w.publisher.Sessions() {
			sent = s.Sent
		}
		if sent == 0 || lost == 0 {
			t.Fatalf("%d sent, %d in the driver", sent, lost)
		}
		w.unplug()
		w.plug(zwave) // before anybody looked
		time.Sleep(2 * time.Second)
		back := w.port(zwave.Path)
		w.running.Go(func() { _, _ = back.fromDevice.write([]byte("after")) })
		if _, err := r.Write([]byte("down")); err != nil { // goes to the new port meanwhile
			t.Fatal(err)
		}
		if have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 4); err != nil || string(have) != "down" {
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
		w := newWorld(t, bridge.PublisherConfig{Rules: rules}, pinned)
		defer w.close()
		c := w.dialOwner(session.Open{Device: "lab", Take: session.TakeNormal, Line: "57600e71"})
		c.control(session.Control{Kind: session.KindModem, Mask: uint64(line.ModemOutputs), Bits: uint64(line.RTS)})
		c.control(session.Control{Kind: session.KindLine, Line: "9600n82"})
		synctest.Wait()
		w.unplug()
		c.write([]byte("x"))
		time.Sleep(time.Second)
		w.plug(pinned)
		time.Sleep(3 * time.Second)
		spec := w.port(pinned.Path).pins.spec
		if spec.Line.String() != "9600n82" || spec.DTR != line.DriveOff || spec.RTS != line.DriveOn {
			t.Errorf("opened with %+v", spec)
		}
		c.close()
		// The next session has the device's own settings again.
		c = w.dialOwner(session.Open{Device: "lab", Take: session.TakeNormal})
		if have := w.port(pinned.Path).Line().String(); have != "115200n81" {
			t.Errorf("the next session has %v", have)
		}
		c.close()
	})
}

// TestHoldOfAway: a session does not wait for ever.
func TestHoldOfAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []rule.Rule{{Match: rule.Match{VID: "0658"}, Hold: 4 * time.Second}}
		w := newWorld(t, bridge.PublisherConfig{Rules: rules}, zwave)
		defer w.close()
		c := w.dialOwner(session.Open{Device: "garage-zwave", Take: session.TakeNormal})
		w.unplug()
		began := time.Now()
		if err := <-c.ended; !errors.Is(err, session.CodeGone) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(began); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("ended after %v", took)
		}
		if d := w.device("garage-zwave"); d.State != registry.StateAway || d.Detail != "unplugged" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		c.close()
	})
}

// TestWatch: an event is acted on at once, and without one the look is slow.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan func(), 1)
		w := newWorld(t, bridge.PublisherConfig{Watch: func(ctx context.Context, changed func()) error {
			changed()
			events <- changed
			<-ctx.Done()
			return nil
		}})
		defer w.close()
		changed := <-events
		synctest.Wait()
		w.plug(zwave)
		time.Sleep(20 * time.Second)
		if have := w.published(); have != nil {
			t.Errorf("published %q without an event", have)
		}
		changed()
		if have := w.published(); !reflect.DeepEqual(have, []string{"garage-zwave zwave 1-1 available"}) {
			t.Errorf("published %q", have)
		}
		w.plug()
		time.Sleep(31 * time.Second)
		if have := w.published(); !reflect.DeepEqual(have, []string{"garage-zwave zwave 1-1 away"}) {
			t.Errorf("an event that was lost: %q", have)
		}
	})
}

// TestBrokenWatch: without events the look is fast, and the watch is tried
// again.
func TestBrokenWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		w := newWorld(t, bridge.PublisherConfig{Watch: func(context.Context, func()) error {
			tries++
			return errors.New("permission denied")
		}})
		defer w.close()
		synctest.Wait()
		w.plug(zwave)
		time.Sleep(1500 * time.Millisecond)
		if have := w.published(); len(have) != 1 {
			t.Errorf("published %q", have)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if tries < 4 || tries > 7 {
			t.Errorf("%d tries in five minutes", tries)
		}
	})
}

// TestSameStick: which stick is which when there is no serial number.
func TestSameStick(t *testing.T) {
	stick := func(n, port string) rule.Candidate { return usb("/dev/ttyACM"+n, "0658", "0200", "", port) }
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{})
		defer w.close()
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
			w.plug(step.there...)
			time.Sleep(2*time.Second + step.wait)
			if have := w.published(); !reflect.DeepEqual(have, step.want) {
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
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll, Rules: rules}, console, empty)
		defer w.close()
		d := w.device("con")
		if d.State != registry.StateFault || d.Detail != "left alone: console" {
			t.Errorf("%v, %q", d.State, d.Detail)
		}
		time.Sleep(time.Minute)
		if have := w.published(); len(have) != 1 || w.opens != 0 {
			t.Errorf("published %q, %d opens", have, w.opens)
		}
		if have := w.publisher.Ignored(); !reflect.DeepEqual(have, []rule.Candidate{empty}) {
			t.Errorf("ignored %+v", have)
		}
		if _, err := w.consumer(1, 0).attacher.OpenRaw(context.Background(), "con", use.TakeForce); !errors.Is(err, session.CodeGone) {
			t.Error(err)
		}
	})
}

// TestMoved: the stick is at another owner now.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stick := usb("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "lab"}}
		w := newWorld(t, bridge.PublisherConfig{Rules: rules}, stick)
		defer w.close()
		c := w.dialOwner(session.Open{Device: "lab", Take: session.TakeNormal})
		if _, err := w.port(stick.Path).fromDevice.write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		there := identity.NodeID{9}
		h := stick.Hardware
		h.Port = "3-1"
		if w.publisher.Moved(h, there) {
			t.Error("moved while it is here")
		}
		w.unplug()
		time.Sleep(1500 * time.Millisecond)
		other := h
		other.Serial = "abd"
		if w.publisher.Moved(other, there) || !w.publisher.Moved(h, there) || w.publisher.Moved(h, there) {
			t.Error("not moved once")
		}
		err := <-c.ended
		if !errors.Is(err, session.CodeMoved) || !strings.Contains(err.Error(), there.Short()) {
			t.Errorf("ended with %v", err)
		}
		if have := c.got(); have != "last words" {
			t.Errorf("delivered %q", have)
		}
		if have := w.published(); have != nil {
			t.Errorf("published %q", have)
		}
		w.plug(stick)
		time.Sleep(1500 * time.Millisecond)
		if have := w.published(); len(have) != 1 {
			t.Errorf("after it came back: published %q", have)
		}
		c.close()
		_ = w.openRaw(w.consumer(1, 0), "lab", use.TakeNormal).Close()
	})
}
