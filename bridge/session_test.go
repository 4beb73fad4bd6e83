package bridge_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/use"
)

// both carries data both ways at once between a stream and a device, and
// checks every byte.
func both(t *testing.T, w *world, stream interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}, port *memPort, down, up []byte, chunk int) chan struct{} {
	done := make(chan struct{}, 4)
	send := func(write func([]byte) (int, error), data []byte) {
		for len(data) > 0 {
			n := min(len(data), 1+rand.IntN(chunk))
			if _, err := write(data[:n]); err != nil {
				t.Error(err)
				break
			}
			data = data[n:]
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
		done <- struct{}{}
	}
	receive := func(who string, read readFunc, want []byte) {
		have, err := readExactly(read, len(want))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s: %d bytes differ, %v", who, len(want), err)
		}
		done <- struct{}{}
	}
	w.running.Go(func() { send(stream.Write, down) })
	w.running.Go(func() { send(port.fromDevice.write, up) })
	w.running.Go(func() { receive("device", port.toDevice.read, down) })
	w.running.Go(func() { receive("application", stream.Read, up) })
	return done
}

func TestResumeAfterRandomCuts(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, bridge.PublisherConfig{Window: 16384}, zwave)
			defer w.close()
			w.set(func() { w.fragile = seed%2 == 1 })
			n := w.consumer(1, 0)
			r := w.openRaw(n, "garage-zwave", use.TakeNormal)
			down, up := noise(2*seed, 300000), noise(2*seed+1, 300000)
			done := both(t, w, r, w.port(zwave.Path), down, up, 3000)
			cuts, stuck := 0, time.After(time.Hour)
			for open := 4; open > 0; {
				select {
				case <-done:
					open--
				case <-time.After(time.Duration(rand.IntN(80)) * time.Millisecond):
					w.set(func() { w.down = rand.IntN(2) == 0 })
					w.cut()
					cuts++
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
					w.set(func() { w.down = false })
					w.changed()
				case <-stuck:
					t.Fatal("stuck")
				}
			}
			s := w.publisher.Sessions()
			if len(s) != 1 || s[0].Resumed == 0 || s[0].Lost != 0 {
				t.Errorf("%d cuts, sessions %+v", cuts, s)
			}
			_ = r.Close()
		})
	}
}

// TestResumeUnanswered: a stream that takes OPEN and never answers is given up
// as early as one of a session that falls silent, not when hold is over.
func TestResumeUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hold = 5 * time.Second
		w := newWorld(t, bridge.PublisherConfig{Hold: hold}, zwave)
		defer w.close()
		n := w.consumer(1, hold)
		r := w.openRaw(n, "garage-zwave", use.TakeNormal)
		w.set(func() { w.stuck = true })
		w.cut()
		if _, err := io.WriteString(r, "kept"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the resume waits for its answer
		w.set(func() { w.stuck = false })
		time.Sleep(hold)
		if n := w.port(zwave.Path).toDevice.len(); n != len("kept") {
			t.Errorf("the device has %d bytes", n)
		}
		if s := r.(interface{ Status() use.Status }).Status(); s.Gaps > 0 || s.Resumed != 1 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}
