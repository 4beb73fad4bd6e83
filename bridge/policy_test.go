package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func refusing() bridge.PublisherConfig {
	return bridge.PublisherConfig{Rules: []rule.Rule{{
		Match: rule.Match{VID: "0658"}, Busy: rule.BusyRefuse,
	}}}
}

func TestArbitration(t *testing.T) {
	tests := []struct {
		name   string
		config bridge.PublisherConfig
		take   use.Take
		want   error // nil: the second gets the device
	}{
		{"kick, normal", bridge.PublisherConfig{}, use.TakeNormal, nil},
		{"kick, polite", bridge.PublisherConfig{}, use.TakePolite, session.CodeBusy},
		{"kick, force", bridge.PublisherConfig{}, use.TakeForce, nil},
		{"refuse, normal", refusing(), use.TakeNormal, session.CodeBusy},
		{"refuse, polite", refusing(), use.TakePolite, session.CodeBusy},
		{"refuse, force", refusing(), use.TakeForce, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.config, zwave)
				defer w.close()
				first, second := w.consumer(1, 0), w.consumer(2, 0)
				r := w.openRaw(first, "garage-zwave", use.TakeNormal)
				defer r.Close()
				other, err := second.attacher.OpenRaw(context.Background(), "garage-zwave", test.take)
				if !errors.Is(err, test.want) {
					t.Fatalf("%v, want %v", err, test.want)
				}
				holder := first
				if err == nil {
					holder = second
					defer other.Close()
				} else if !strings.Contains(err.Error(), first.id.Short()) {
					t.Errorf("the refusal does not say who holds it: %v", err)
				}
				if d := w.device("garage-zwave"); d.State != registry.StateInUse || d.User != holder.id {
					t.Errorf("%v, used by %v", d.State, d.User)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := refusing()
		config.Rules[0].Allow = []identity.NodeID{{1}}
		w := newWorld(t, config, zwave)
		defer w.close()
		allowed, stranger := w.consumer(1, 0), w.consumer(2, 0)
		for name, want := range map[string]error{
			"garage-zwave": session.CodeRefused, "garage-zigbee": session.CodeNotFound, "nowhere": registry.ErrNotFound,
		} {
			if _, err := stranger.attacher.OpenRaw(context.Background(), name, use.TakeForce); !errors.Is(err, want) {
				t.Errorf("open %q: %v, want %v", name, err, want)
			}
		}
		_ = w.openRaw(allowed, "garage-zwave", use.TakeNormal).Close()
		said := func() int {
			return strings.Count(w.logs(), `msg="open refused, it is not allowed" who=owner device=garage-zwave node=`+stranger.id.String())
		}
		for _, read := range []bool{false, true} {
			_, err := w.tryOwner(stranger.id, session.Open{Device: "garage-zwave", ReadOnly: read})
			key := map[bool]string{false: "add it to allow of", true: "add it to allow_read of"}[read]
			if !errors.Is(err, session.CodeRefused) || !strings.Contains(err.Error(), stranger.id.String()) || !strings.Contains(err.Error(), key) {
				t.Errorf("the stranger was told: %v", err)
			}
		}
		if said() != 1 {
			t.Errorf("the owner's log says it %d times", said())
		}
		w.publisher.Update(rule.Policy{Rules: []rule.Rule{{Match: rule.Match{VID: "0658"}, Allow: []identity.NodeID{{3}}}}})
		synctest.Wait()
		if _, err := w.tryOwner(stranger.id, session.Open{Device: "garage-zwave"}); !errors.Is(err, session.CodeRefused) || said() != 2 {
			t.Errorf("under another rule: %v, said %d times", err, said())
		}
	})
}

// TestKickedWaitsPolitely: who was kicked cannot kick back, and comes back by
// itself when the holder releases.
func TestKickedWaitsPolitely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Hold: time.Minute}, zwave)
		defer w.close()
		first, second := w.consumer(1, 0), w.consumer(2, 0)
		one := w.openRaw(first, "garage-zwave", use.TakeNormal)
		two := w.openRaw(second, "garage-zwave", use.TakeNormal)
		time.Sleep(30 * time.Second)
		if d := w.device("garage-zwave"); d.User != second.id {
			t.Errorf("used by %v", d.User)
		}
		_ = two.Close()
		time.Sleep(3 * time.Second)
		if d := w.device("garage-zwave"); d.User != first.id {
			t.Errorf("after the release used by %v, %v", d.User, d.State)
		}
		if _, err := one.Write([]byte("on")); err != nil {
			t.Error(err)
		}
		if have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 2); err != nil || string(have) != "on" {
			t.Errorf("%q, %v", have, err)
		}
		_ = one.Close()
	})
}

func TestHoldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		n := w.consumer(1, 0)
		r := w.openRaw(n, "garage-zwave", use.TakeNormal)
		w.set(func() { w.down = true })
		began := time.Now()
		w.cut()
		time.Sleep(session.DefaultHold - time.Second)
		if d := w.device("garage-zwave"); d.State != registry.StateInUse {
			t.Errorf("released before hold: %v", d.State)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after hold: %v", err)
		}
		if took := time.Since(began); took < session.DefaultHold || took > session.DefaultHold+time.Second {
			t.Errorf("hung up after %v", took)
		}
		time.Sleep(time.Second)
		if d := w.device("garage-zwave"); d.State != registry.StateAvailable {
			t.Errorf("not released after hold: %v", d.State)
		}
		_ = r.Close()
	})
}

// TestHoldOfRule: both ends keep a session for as long as the device's rule says,
// whatever the consumer was made with.
func TestHoldOfRule(t *testing.T) {
	for _, hold := range []time.Duration{3 * time.Second, 90 * time.Second} {
		t.Run(hold.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules := []rule.Rule{{Match: rule.Match{VID: "0658"}, Hold: hold}}
				w := newWorld(t, bridge.PublisherConfig{Rules: rules}, zwave)
				defer w.close()
				r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
				w.set(func() { w.down = true })
				w.cut()
				time.Sleep(hold - time.Second)
				w.set(func() { w.down = false })
				w.changed()
				if _, err := r.Write([]byte("a")); err != nil {
					t.Fatal(err)
				}
				if have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 1); err != nil || string(have) != "a" {
					t.Fatalf("back before the end of hold: %q, %v", have, err)
				}
				w.set(func() { w.down = true })
				began := time.Now()
				w.cut()
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

// TestSilentPeer: a stream that neither breaks nor carries anything is given
// up, and the session goes on with another.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		time.Sleep(time.Hour) // an idle session lives on its pings
		if s := w.publisher.Sessions(); len(s) != 1 || s[0].Resumed != 0 {
			t.Errorf("after an idle hour: %+v", s)
		}
		w.freeze()
		if _, err := r.Write([]byte("through")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 7)
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
		w := newWorld(t, refusing(), zwave)
		defer w.close()
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		port := w.port(zwave.Path)
		for range 5 {
			w.set(func() {
				s := w.streams[len(w.streams)-1]
				s.out.mu.Lock()
				s.out.frozen, s.out.deaf = true, true
				s.out.mu.Unlock()
			})
			if _, err := r.Write([]byte("down")); err != nil {
				t.Fatal(err)
			}
			if _, err := port.fromDevice.write([]byte("up")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			w.set(func() { w.streams[len(w.streams)-1].in.close(errCut, true) })
			began := time.Now()
			if have, err := readExactly(r, 2); err != nil || string(have) != "up" {
				t.Errorf("application got %q, %v", have, err)
			}
			if have, err := readExactly(readFunc(port.toDevice.read), 4); err != nil || string(have) != "down" {
				t.Errorf("device got %q, %v", have, err)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("took %v", took)
			}
			time.Sleep(10 * time.Second)
		}
		if s := w.publisher.Sessions(); len(s) != 1 || s[0].Resumed != 5 || s[0].Lost != 0 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}

// TestOwnerRestart: the new owner knows nothing of the session; what it may
// not have delivered is a gap, told on both sides, and not sent again.
func TestOwnerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		n := w.consumer(1, 0)
		r := w.openRaw(n, "garage-zwave", use.TakeNormal)
		w.set(func() { w.down = true })
		w.cut()
		if _, err := r.Write([]byte("lost with the old owner")); err != nil {
			t.Fatal(err)
		}
		w.restartOwner(bridge.PublisherConfig{})
		w.set(func() { w.down = false })
		w.changed()
		time.Sleep(3 * time.Second)
		if _, err := r.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 3)
		if err != nil || string(have) != "new" {
			t.Errorf("%q, %v", have, err)
		}
		if s := w.publisher.Sessions(); len(s) != 1 || s[0].Lost != 23 {
			t.Errorf("the owner was not told of 23 lost bytes: %+v", s)
		}
		_ = r.Close()
		synctest.Wait()
		if logs := w.logs(); !strings.Contains(logs, `msg="bytes of the device were lost" who="consumer 1" device=garage-zwave lost=0 unknown=true`) {
			t.Errorf("the consumer was not told that there is a gap of unknown size")
		}
	})
}

// TestSlowReader: who does not read stalls itself only, and loses nothing.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zigbee := rule.Candidate{Path: "/dev/ttyACM1", Hardware: registry.Hardware{VID: "1cf1", PID: "0030", Port: "1-2"}}
		w := newWorld(t, bridge.PublisherConfig{Window: 8192}, zwave, zigbee)
		defer w.close()
		n := w.consumer(1, 0)
		slow := w.openRaw(n, "garage-zwave", use.TakeNormal)
		fast := w.openRaw(n, "garage-zigbee", use.TakeNormal)
		data := noise(1, 1<<20)
		w.running.Go(func() { _, _ = w.ports[zwave.Path].fromDevice.write(data) })
		synctest.Wait() // everything between is full
		other := noise(2, 1<<20)
		w.running.Go(func() { _, _ = w.ports[zigbee.Path].fromDevice.write(other) })
		began := time.Now()
		if have, err := readExactly(fast, len(other)); err != nil || string(have) != string(other) {
			t.Error("the fast session lost bytes", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the fast session took %v", took)
		}
		time.Sleep(time.Minute) // the slow session's stream lives all the time
		if have, err := readExactly(slow, len(data)); err != nil || string(have) != string(data) {
			t.Error("the slow session lost bytes", err)
		}
		for _, s := range w.publisher.Sessions() {
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
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		port := w.port(zwave.Path)
		if _, err := port.fromDevice.write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		first, second := w.consumer(1, 0), w.consumer(2, 0)
		one := w.openRaw(first, "garage-zwave", use.TakeNormal)
		if _, err := port.fromDevice.write([]byte("one")); err != nil {
			t.Fatal(err)
		}
		if have, err := readExactly(one, 3); err != nil || string(have) != "one" {
			t.Errorf("first got %q, %v", have, err)
		}
		two := w.openRaw(second, "garage-zwave", use.TakeNormal)
		if _, err := port.fromDevice.write([]byte("two")); err != nil {
			t.Fatal(err)
		}
		if have, err := readExactly(two, 3); err != nil || string(have) != "two" {
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
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		port := w.port(zwave.Path)
		watcher, err := w.tryOwner(identity.NodeID{3}, session.Open{Device: "garage-zwave", ReadOnly: true, Kind: "pty"})
		if err != nil {
			t.Fatal(err)
		}
		taken, letGo := port.slow()
		if _, err := port.fromDevice.write([]byte("stale ")); err != nil {
			t.Fatal(err)
		}
		<-taken
		r := w.openRaw(w.consumer(1, 0), "garage-zwave", use.TakeNormal)
		if _, err := port.fromDevice.write([]byte("fresh")); err != nil {
			t.Fatal(err)
		}
		close(letGo)
		have, err := readExactly(r, 5)
		if err != nil || string(have) != "fresh" {
			t.Errorf("the new session got %q, %v", have, err)
		}
		synctest.Wait()
		if have := watcher.got(); have != "stale fresh" {
			t.Errorf("who read along before got %q", have)
		}
		_ = r.Close()
		watcher.close()
	})
}

// TestWriterAfterReader: who reads along does not keep the first writer from
// its line settings.
func TestWriterAfterReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		synctest.Wait()
		watcher, err := w.tryOwner(identity.NodeID{3}, session.Open{Device: "garage-zwave", ReadOnly: true, Kind: "monitor"})
		if err != nil {
			t.Fatal(err)
		}
		writer := w.dialOwner(session.Open{Device: "garage-zwave", Take: session.TakeNormal, Line: "9600e71"})
		if have := w.port(zwave.Path).Line().String(); have != "9600e71" || writer.accept.Line != have {
			t.Errorf("the port has %s, ACCEPT says %s", have, writer.accept.Line)
		}
		second := w.dialOwner(session.Open{Device: "garage-zwave", Take: session.TakeForce})
		if have := second.accept.Line; have != "115200n81" {
			t.Errorf("who took it began with %s", have)
		}
		watcher.close()
		writer.close()
		second.close()
	})
}

func TestServeRefusesJunk(t *testing.T) {
	open, err := session.AppendOpen(nil, session.Open{
		Protocol: session.Protocol, Device: "garage-zwave", ID: session.ID{1}, Take: session.TakeNormal, Window: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	hole := append([]byte{byte(session.TypeData), 0, 9}, 0, 0, 0, 0, 0, 0, 0, 77, 'x')
	tests := []struct {
		name  string
		bytes []byte
		want  session.Code
	}{
		{"no frame", []byte("GET / HTTP/1.1\r\n"), session.CodeProtocol},
		{"DATA first", hole, session.CodeProtocol},
		{"an unknown device", bytes.Replace(open, []byte("zwave"), []byte("zwavf"), 1), session.CodeNotFound},
		{"a hole in the data", append(bytes.Clone(open), hole...), session.CodeProtocol},
		{"a second OPEN", append(bytes.Clone(open), open...), session.CodeProtocol},
		{"nothing", nil, session.CodeProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bridge.PublisherConfig{}, zwave)
				defer w.close()
				port := w.port(zwave.Path)
				a, b := newStreamPair(65536)
				served := make(chan error, 1)
				w.running.Go(func() { served <- w.publisher.Serve(w.ownerCtx, b, identity.NodeID{1}) })
				if _, err := a.Write(test.bytes); err != nil {
					t.Fatal(err)
				}
				if err := <-served; err == nil {
					t.Error("served without an error")
				}
				all, _ := io.ReadAll(a)
				var closed *session.CloseError
				for len(all) > 0 {
					f, n, err := session.Decode(all)
					if err != nil || n == 0 {
						t.Fatalf("%x, %v", all, err)
					}
					if all = all[n:]; f.Type == session.TypeClose {
						if closed, err = session.ParseClose(f.Payload); err != nil {
							t.Fatal(err)
						}
					}
				}
				if !errors.Is(closed, test.want) {
					t.Errorf("told %v, want %v", closed, test.want)
				}
				if n := port.toDevice.len(); n != 0 {
					t.Errorf("%d bytes reached the device", n)
				}
				if d := w.device("garage-zwave"); d.State != registry.StateAvailable {
					t.Errorf("the device is %v", d.State)
				}
			})
		})
	}
}
