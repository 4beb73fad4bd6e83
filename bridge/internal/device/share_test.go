package device_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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

func busy(b rule.Busy) publish.Config {
	return publish.Config{Rules: []rule.Rule{{Match: rule.Match{VID: "0658"}, Busy: b}}}
}

func last(all []session.Control) string {
	if len(all) == 0 {
		return "nothing"
	}
	return all[len(all)-1].Text
}

// TestShare: all hear the device, each is told of the others, and what one of
// them writes at once stays together though the device is slow.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, busy(rule.BusyShare), bridgetest.Zwave)
		defer w.Close()
		one, two := w.As(1), w.As(2)
		short := func(n byte) string { return identity.NodeID{n}.Short() }
		synctest.Wait()
		if have := last(one.Told(session.KindUsers)); have != short(2) {
			t.Errorf("the first was told of %q", have)
		}
		if have := last(two.Told(session.KindUsers)); have != short(1) {
			t.Errorf("the second was told of %q", have)
		}
		if d := w.Device("garage-zwave"); d.State != registry.StateInUse || d.User != (identity.NodeID{1}) || d.Detail != "shared by 2" {
			t.Errorf("%v by %v, %q", d.State, d.User, d.Detail)
		}
		port := w.Port(bridgetest.Zwave.Path)
		var want []string
		for i := range 20 {
			for n, p := range []*bridgetest.Peer{one, two} {
				text := fmt.Sprintf("<%d.%d %s>", n, i, strings.Repeat("x", 1000+100*i))
				want = append(want, text)
				p.Write([]byte(text))
			}
		}
		total := len(strings.Join(want, ""))
		have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(port.ToDevice.Read), total)
		if err != nil {
			t.Fatal(err)
		}
		writes := strings.SplitAfter(string(have), ">")
		writes = writes[:len(writes)-1]
		slices.Sort(writes)
		slices.Sort(want)
		if !slices.Equal(writes, want) {
			t.Error("writes were cut")
		}
		if _, err := port.FromDevice.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if one.Got() != "hello" || two.Got() != "hello" {
			t.Errorf("got %q and %q", one.Got(), two.Got())
		}
		one.Control(session.Control{Kind: session.KindLine, Line: "9600n81"})
		synctest.Wait()
		if all := two.Told(session.KindFailed); len(all) != 1 || all[0].Line != "9600n81" || all[0].Text != "set by "+short(1) {
			t.Errorf("the other was told %+v", all)
		}
		one.Close()
		synctest.Wait()
		if have := last(two.Told(session.KindUsers)); have != "" {
			t.Errorf("alone, and told of %q", have)
		}
		two.Close()
	})
}

// TestShareSlow: who does not read loses what does not fit, knows how much, and
// stops nobody.
func TestShareSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := busy(rule.BusyShare)
		config.Window = 8192
		w := bridgetest.NewWorld(t, config, bridgetest.Zwave)
		defer w.Close()
		slow, fast := w.As(1), w.As(2)
		slow.Deafen()
		port := w.Port(bridgetest.Zwave.Path)
		data := bridgetest.Noise(1, 100000)
		w.Running.Go(func() {
			for piece := range slices.Chunk(data, 1000) {
				_, _ = port.FromDevice.Write(piece)
				time.Sleep(time.Millisecond) // a device is slower than the mesh
			}
		})
		time.Sleep(time.Second)
		if have := fast.Got(); have != string(data) {
			t.Errorf("the fast one got %d bytes of %d", len(have), len(data))
		}
		slow.Listen()
		synctest.Wait()
		if _, err := port.FromDevice.Write([]byte("end")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		have, gaps := slow.Got(), slow.Told(session.KindGap)
		if !strings.HasSuffix(have, "end") || len(gaps) != 1 || len(have)-3+int(gaps[0].Lost) != len(data) {
			t.Errorf("the slow one got %d bytes and was told of %+v", len(have), gaps)
		}
		for _, s := range w.Publisher.Sessions() {
			if wrong := s.Peer == (identity.NodeID{1}) && len(gaps) == 1 && s.Lost != gaps[0].Lost || s.Peer == (identity.NodeID{2}) && s.Lost != 0; wrong {
				t.Errorf("%+v", s)
			}
		}
		slow.Close()
		fast.Close()
	})
}

// TestShareFair: of writers that always have more than a slow device takes, each
// gets the same share and is held back by its own window; a short write of another
// waits for a few writes and not for all; no write is cut by another's.
func TestShareFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			window, flooders = 16384, 3
			longest          = 4510 // of the flooders' writes
			drainedAtOnce    = 4096 // short ones in a turn
		)
		config := busy(rule.BusyShare)
		config.Window = window
		w := bridgetest.NewWorld(t, config, bridgetest.Zwave)
		defer w.Close()
		var sent [flooders]atomic.Int64
		for n := range flooders {
			r := w.OpenRaw(w.Consumer(byte(n+1), 0), "garage-zwave", use.TakeNormal)
			defer r.Close()
			w.Running.Go(func() {
				for i := 0; ; i++ {
					text := fmt.Sprintf("<%d %s>", n, strings.Repeat(string(rune('a'+n)), 500+i*777%4000))
					if _, err := r.Write([]byte(text)); err != nil {
						return
					}
					sent[n].Add(int64(len(text)))
				}
			})
		}
		short := w.OpenRaw(w.Consumer(9, 0), "garage-zwave", use.TakeNormal)
		defer short.Close()
		stalled := w.As(10) // takes nothing, and has written
		stalled.Deafen()
		stalled.Write([]byte("<s s>"))
		port := w.Port(bridgetest.Zwave.Path)
		var have []byte
		drain := func(n int) {
			buf := make([]byte, 1000)
			for range n { // 10,000 bytes a second
				time.Sleep(100 * time.Millisecond)
				n, err := port.ToDevice.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				have = append(have, buf[:n]...)
			}
		}
		took := func() (all [flooders]int) {
			for n := range flooders {
				all[n] = strings.Count(string(have), string(rune('a'+n)))
			}
			return all
		}
		drain(50) // who came first had the driver's queue for himself
		early := took()
		drain(200)
		for range 5 {
			if _, err := short.Write([]byte("<9 hello>")); err != nil {
				t.Fatal(err)
			}
			before := strings.Count(string(have), "hello")
			waited := 0
			for ; strings.Count(string(have), "hello") == before && waited < 100; waited++ {
				drain(1)
			}
			// The driver's 4 KiB and a write of each of the others.
			if most := (4096 + flooders*(drainedAtOnce+longest)) / 1000; waited > most {
				t.Errorf("a short write waited for %d bytes of others", waited*1000)
			}
		}
		shares := took()
		for n, taken := range shares {
			if ahead := int(sent[n].Load()) - taken; ahead > 2*window+4096+2000 {
				t.Errorf("writer %d is %d bytes ahead of the device", n, ahead)
			}
			shares[n] -= early[n]
		}
		// Of each one turn may just have begun or ended, at either end.
		if slices.Max(shares[:])-slices.Min(shares[:]) > 2*(drainedAtOnce+longest) {
			t.Errorf("the device took %v", shares)
		}
		writes := strings.SplitAfter(string(have), ">")
		for _, text := range writes[:len(writes)-1] {
			if strings.LastIndex(text, "<") != 0 || strings.Trim(text[3:len(text)-1], text[3:4]) != "" && text != "<9 hello>" {
				t.Errorf("a write was cut: %.20q of %d bytes", text, len(text))
			}
		}
		port.Unplug(bridgetest.ErrCut)
		stalled.Close()
	})
}

// TestShareTurn: a purge in the middle of a write lets the others go on.
func TestShareTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, busy(rule.BusyShare), bridgetest.Zwave)
		defer w.Close()
		one, two := w.As(1), w.As(2)
		port := w.Port(bridgetest.Zwave.Path)
		one.Write(bridgetest.Noise(1, 10000)) // more than the driver takes
		synctest.Wait()
		two.Write([]byte("after"))
		synctest.Wait()
		one.Control(session.Control{Kind: session.KindPurge, Bits: session.PurgeTransmit})
		until := func(end string) {
			t.Helper()
			var all []byte
			for !strings.HasSuffix(string(all), end) {
				time.Sleep(time.Second)
				if port.ToDevice.Len() == 0 {
					t.Fatalf("the device got %d bytes without %q", len(all), end)
				}
				buf := make([]byte, 8192)
				n, err := port.ToDevice.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, buf[:n]...)
			}
		}
		until("after")
		one.Write(bridgetest.Noise(1, 10000))
		synctest.Wait()
		one.Close() // in the middle of a write
		two.Write([]byte("again"))
		until("again")
		two.Close()
	})
}

// TestWait: those who come later get the device in the order of coming.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, busy(rule.BusyWait), bridgetest.Zwave)
		defer w.Close()
		holder := w.As(1)
		type answer struct {
			n   byte
			p   *bridgetest.Peer
			err error
		}
		answers := make(chan answer, 8)
		ask := func(n byte) {
			w.Running.Go(func() {
				// As a consumer does: the same session, again and again.
				open := session.Open{Device: "garage-zwave", Take: session.TakeNormal, ID: session.ID{n}}
				for {
					p, err := w.TryOwner(identity.NodeID{n}, open)
					if err != nil && errors.Is(err, session.CodeBusy) {
						time.Sleep(time.Second)
						continue
					}
					answers <- answer{n, p, err}
					return
				}
			})
		}
		ask(2)
		time.Sleep(time.Second)
		ask(3)
		time.Sleep(20 * time.Second)
		for _, want := range []byte{2, 3} {
			if d := w.Device("garage-zwave"); d.State != registry.StateInUse {
				t.Errorf("%v", d.State)
			}
			holder.Close()
			began := time.Now()
			a := <-answers
			if a.err != nil || a.n != want {
				t.Fatalf("next is %d, %v; want %d", a.n, a.err, want)
			}
			if took := time.Since(began); took > 1100*time.Millisecond {
				t.Errorf("waited %v after the release", took)
			}
			holder = a.p
		}
		if _, err := w.TryOwner(identity.NodeID{4}, session.Open{Device: "garage-zwave", Take: session.TakeForce}); err != nil {
			t.Errorf("a person's wish: %v", err)
		}
		if err := <-holder.Ended; !errors.Is(err, session.CodeKicked) {
			t.Error(err)
		}
	})
}
