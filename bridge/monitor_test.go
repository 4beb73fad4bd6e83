package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// TestMonitor reads along with someone who uses the device: both directions
// with their times, the line settings, and a gap where streams were lost.
func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		user, watcher := w.consumer(1, 0), w.consumer(2, 0)
		r := w.openRaw(user, "garage-zwave", use.TakeNormal)
		m, err := watcher.attacher.OpenMonitor(context.Background(), "garage-zwave")
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
		port := w.port(zwave.Path)
		if _, err := port.fromDevice.write([]byte("fro")); err != nil {
			t.Fatal(err)
		}
		next(capture.Event{Kind: capture.FromDevice, Data: []byte("fro"), At: 2 * time.Second})
		w.cut()
		time.Sleep(3 * time.Second)
		if _, err := port.fromDevice.write([]byte("again")); err != nil {
			t.Fatal(err)
		}
		next(capture.Event{Kind: capture.FromDevice, Data: []byte("again"), At: 5 * time.Second})
		if s := m.Status(); s.Resumed != 1 || s.Kind != "monitor" || s.Gaps != 0 {
			t.Errorf("%+v", s)
		}
		if s := w.publisher.Sessions(); len(s) != 2 {
			t.Errorf("%+v", s)
		}
		_ = r.Close()
		// A new owner: times begin anew, after a gap.
		w.set(func() { w.down = true })
		w.restartOwner(bridge.PublisherConfig{})
		w.set(func() { w.down = false })
		w.changed()
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
		w := newWorld(t, bridge.PublisherConfig{Window: 4096}, zwave)
		defer w.close()
		user, watcher := w.consumer(1, 0), w.consumer(2, 0)
		r := w.openRaw(user, "garage-zwave", use.TakeNormal)
		m, err := watcher.attacher.OpenMonitor(context.Background(), "garage-zwave")
		if err != nil {
			t.Fatal(err)
		}
		port := w.port(zwave.Path)
		total := uint64(0)
		send := func() {
			t.Helper()
			total += 1000
			if _, err := port.fromDevice.write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if _, err := readExactly(r, 1000); err != nil {
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

// TestOpenPort is what the Go library stands on.
func TestOpenPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll}, pinned)
		defer w.close()
		n := w.consumer(1, 0)
		name := w.device("garage-serial").Name
		p, err := n.attacher.OpenPort(context.Background(), name, remote.Options{Line: line.Settings{Baud: 9600, DataBits: 8}})
		if err != nil {
			t.Fatal(err)
		}
		port := w.port(pinned.Path)
		if port.Line().Baud != 9600 {
			t.Errorf("opened with %v", port.Line())
		}
		synctest.Wait()
		if s := p.State(); !s.HasModem || !s.On.Has(line.CTS) || s.On.Has(line.DSR) || s.Line.Baud != 9600 {
			t.Errorf("state %+v", s)
		}
		ctx := context.Background()
		if err := errors.Join(p.SetLine(ctx, line.Settings{Baud: 57600, DataBits: 8}), p.SetModem(ctx, line.ModemOutputs, line.RTS), p.Break(ctx, 250*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if port.Line().Baud != 57600 {
			t.Errorf("SetLine returned with %v at the device", port.Line())
		}
		if _, err := p.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := p.Drain(context.Background()); err != nil || port.toDevice.len() != 1 || port.Line().Baud != 57600 {
			t.Errorf("drained: %v, the device has %d bytes at %v", err, port.toDevice.len(), port.Line())
		}
		_, _ = port.fromDevice.write([]byte("old"))
		synctest.Wait()
		if err := p.Purge(session.PurgeReceive); err != nil {
			t.Fatal(err)
		}
		if end, err := p.Purged(ctx, session.PurgeReceive); err != nil || end != 3 {
			t.Errorf("purged up to %d, %v", end, err)
		}
		_, _ = port.fromDevice.write([]byte("new"))
		if b, err := readExactly(p, 3); err != nil || string(b) != "new" {
			t.Errorf("%q, %v", b, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("x")); err == nil {
			t.Error("write after Close works")
		}
		if err := p.Drain(context.Background()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("drain after Close: %v", err)
		}
	})
}
