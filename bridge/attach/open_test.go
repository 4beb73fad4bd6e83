package attach_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// TestOpenPort is what the Go library stands on.
func TestOpenPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll}, bridgetest.Pinned)
		defer w.Close()
		n := w.Consumer(1, 0)
		name := w.Device("garage-serial").Name
		p, err := n.Attacher.OpenPort(context.Background(), name, remote.Options{Line: line.Settings{Baud: 9600, DataBits: 8}})
		if err != nil {
			t.Fatal(err)
		}
		port := w.Port(bridgetest.Pinned.Path)
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
		if err := p.Drain(context.Background()); err != nil || port.ToDevice.Len() != 1 || port.Line().Baud != 57600 {
			t.Errorf("drained: %v, the device has %d bytes at %v", err, port.ToDevice.Len(), port.Line())
		}
		_, _ = port.FromDevice.Write([]byte("old"))
		synctest.Wait()
		if err := p.Purge(session.PurgeReceive); err != nil {
			t.Fatal(err)
		}
		if end, err := p.Purged(ctx, session.PurgeReceive); err != nil || end != 3 {
			t.Errorf("purged up to %d, %v", end, err)
		}
		_, _ = port.FromDevice.Write([]byte("new"))
		if b, err := bridgetest.ReadExactly(p, 3); err != nil || string(b) != "new" {
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

// TestReopenedWhileAway: an application that is closed and opened again while
// the owner is out of reach finds the device free, not held by itself.
func TestReopenedWhileAway(t *testing.T) {
	b := newBench(t, time.Minute)
	b.publisher.Update(rule.Policy{Rules: []rule.Rule{{Match: rule.Match{Path: b.path}, Name: "lab", Busy: rule.BusyRefuse}}})
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(attach.Spec{Device: "lab", PTY: &attach.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	app := openTTY(t, link)
	b.await(registry.StateInUse)
	exchange(t, app, b.stick, nil, []byte("fro"), func() {}) // a close waits for what it wrote
	b.reach(false, true)
	_ = app.Close()
	state := func() use.State { return b.attacher.Statuses()[0].State }
	b.eventually("the application's close is seen", func() bool { return state() == use.Waiting })
	b.eventually("the owner holds the session", func() bool {
		held := b.publisher.Sessions()
		return len(held) == 1 && !held[0].Connected
	})
	app = openTTY(t, link)
	b.reach(true, false)
	b.eventually("session is on", func() bool { return state() == use.Connected })
	if t.Failed() {
		return
	}
	exchange(t, app, b.stick, []byte("to"), []byte("fro"), func() {})
	_ = app.Close()
}
