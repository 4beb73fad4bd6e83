package remote_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
)

// TestMonitor reads along with someone who uses the device: both directions
// with their times, the line settings, and a gap where streams were lost.
func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		user, watcher := w.Consumer(1, 0), w.Consumer(2, 0)
		r := w.OpenRaw(user, "garage-zwave", use.TakeNormal)
		m, err := watcher.Attacher.OpenMonitor(context.Background(), "garage-zwave")
		if err != nil {
			t.Fatal(err)
		}
		next := func(want capture.Event) {
			t.Helper()
			for {
				e, err := m.Next()
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == capture.Note || e.Kind == capture.Modem {
					continue
				}
				if e.Kind != want.Kind || !bytes.Equal(e.Data, want.Data) || e.Text != want.Text || e.At != want.At {
					t.Errorf("%+v, want %+v", e, want)
				}
				return
			}
		}
		next(capture.Event{Kind: capture.Line, Text: "115200n81"})
		time.Sleep(time.Second)
		if _, err := r.Write([]byte("to")); err != nil {
			t.Fatal(err)
		}
		next(capture.Event{Kind: capture.ToDevice, Data: []byte("to"), At: time.Second})
		time.Sleep(time.Second)
		port := w.Port(bridgetest.Zwave.Path)
		if _, err := port.FromDevice.Write([]byte("fro")); err != nil {
			t.Fatal(err)
		}
		next(capture.Event{Kind: capture.FromDevice, Data: []byte("fro"), At: 2 * time.Second})
		w.Cut()
		time.Sleep(3 * time.Second)
		if _, err := port.FromDevice.Write([]byte("again")); err != nil {
			t.Fatal(err)
		}
		next(capture.Event{Kind: capture.FromDevice, Data: []byte("again"), At: 5 * time.Second})
		if s := m.Status(); s.Resumed != 1 || s.Kind != "monitor" || s.Gaps != 0 {
			t.Errorf("%+v", s)
		}
		if s := w.Publisher.Sessions(); len(s) != 2 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
		// A new owner: times begin anew, after a gap.
		w.Set(func() { w.Down = true })
		w.RestartOwner(publish.Config{})
		w.Set(func() { w.Down = false })
		w.Changed()
		for {
			e, err := m.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == capture.Gap {
				if !e.Unknown {
					t.Errorf("%+v", e)
				}
				break
			}
		}
		_ = m.Close()
		if _, err := m.Next(); err == nil {
			t.Error("Next after Close gives an event")
		}
	})
}

// TestMonitorThatDoesNotRead loses events, counted, and stops nobody.
func TestMonitorThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Window: 4096}, bridgetest.Zwave)
		defer w.Close()
		user, watcher := w.Consumer(1, 0), w.Consumer(2, 0)
		r := w.OpenRaw(user, "garage-zwave", use.TakeNormal)
		m, err := watcher.Attacher.OpenMonitor(context.Background(), "garage-zwave")
		if err != nil {
			t.Fatal(err)
		}
		port := w.Port(bridgetest.Zwave.Path)
		total := uint64(0)
		send := func() {
			t.Helper()
			total += 1000
			if _, err := port.FromDevice.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if _, err := bridgetest.ReadExactly(r, 1000); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		for range 400 {
			send()
		}
		seen, lost := uint64(0), uint64(0)
		var mu sync.Mutex
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				e, err := m.Next()
				if err != nil {
					return
				}
				mu.Lock()
				seen += uint64(len(e.Data))
				if e.Kind == capture.Gap && e.Of == capture.FromDevice {
					lost += e.Lost
				}
				mu.Unlock()
			}
		})
		for range 10 { // a gap is told before the next event
			time.Sleep(time.Second)
			send()
		}
		time.Sleep(time.Second)
		_ = m.Close()
		reader.Wait()
		if lost == 0 || seen == 0 || seen+lost != total {
			t.Errorf("%d bytes seen, %d lost, of %d", seen, lost, total)
		}
		_ = r.Close()
	})
}

// TestMonitorOfLostSession: where a session that was lost ends, and the next
// begins, there is a gap.
func TestMonitorOfLostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		synctest.Wait()
		m, err := w.Consumer(1, 0).Attacher.OpenMonitor(context.Background(), "garage-zwave")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		defer time.AfterFunc(time.Minute, func() { _ = m.Close() }).Stop()
		w.Publisher.EndPeer(identity.NodeID{1}, session.CloseError{Code: session.CodeKicked})
		for {
			e, err := m.Next()
			if err != nil {
				t.Fatalf("no gap: %v", err)
			}
			if e.Kind == capture.Gap {
				if !e.Unknown || e.Of != capture.FromDevice {
					t.Errorf("%+v", e)
				}
				return
			}
		}
	})
}
