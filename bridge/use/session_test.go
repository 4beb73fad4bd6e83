package use_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/use"
)

// both carries data both ways at once between a stream and a device, and
// checks every byte.
func both(t *testing.T, w *bridgetest.World, stream interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}, port *bridgetest.Port, down, up []byte, chunk int) chan struct{} {
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
	receive := func(who string, read bridgetest.ReadFunc, want []byte) {
		have, err := bridgetest.ReadExactly(read, len(want))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s: %d bytes differ, %v", who, len(want), err)
		}
		done <- struct{}{}
	}
	w.Running.Go(func() { send(stream.Write, down) })
	w.Running.Go(func() { send(port.FromDevice.Write, up) })
	w.Running.Go(func() { receive("device", port.ToDevice.Read, down) })
	w.Running.Go(func() { receive("application", stream.Read, up) })
	return done
}

func TestResumeAfterRandomCuts(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := bridgetest.NewWorld(t, publish.Config{Window: 16384}, bridgetest.Zwave)
			defer w.Close()
			w.Set(func() { w.Fragile = seed%2 == 1 })
			n := w.Consumer(1, 0)
			r := w.OpenRaw(n, "garage-zwave", use.TakeNormal)
			down, up := bridgetest.Noise(2*seed, 300000), bridgetest.Noise(2*seed+1, 300000)
			done := both(t, w, r, w.Port(bridgetest.Zwave.Path), down, up, 3000)
			cuts, stuck := 0, time.After(time.Hour)
			for open := 4; open > 0; {
				select {
				case <-done:
					open--
				case <-time.After(time.Duration(rand.IntN(80)) * time.Millisecond):
					w.Set(func() { w.Down = rand.IntN(2) == 0 })
					w.Cut()
					cuts++
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
					w.Set(func() { w.Down = false })
					w.Changed()
				case <-stuck:
					t.Fatal("stuck")
				}
			}
			s := w.Publisher.Sessions()
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
		w := bridgetest.NewWorld(t, publish.Config{Hold: hold}, bridgetest.Zwave)
		defer w.Close()
		n := w.Consumer(1, hold)
		r := w.OpenRaw(n, "garage-zwave", use.TakeNormal)
		w.Set(func() { w.Stuck = true })
		w.Cut()
		if _, err := io.WriteString(r, "kept"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the resume waits for its answer
		w.Set(func() { w.Stuck = false })
		time.Sleep(hold)
		if n := w.Port(bridgetest.Zwave.Path).ToDevice.Len(); n != len("kept") {
			t.Errorf("the device has %d bytes", n)
		}
		if s := r.(interface{ Status() use.Status }).Status(); s.Gaps > 0 || s.Resumed != 1 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
	})
}
