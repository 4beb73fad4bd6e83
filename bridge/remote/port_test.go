package remote_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// openPort opens a device of w as a port.
func openPort(w *bridgetest.World, device string, o remote.Options) *remote.Port {
	w.T.Helper()
	p, err := w.Consumer(1, 0).Attacher.OpenPort(context.Background(), device, o)
	if err != nil {
		w.T.Fatal(err)
	}
	return p
}

// TestPortGapInPlace: a gap stands between the bytes before and after it.
func TestPortGapInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		p := openPort(w, "garage-zwave", remote.Options{})
		_, _ = w.Port(bridgetest.Zwave.Path).FromDevice.Write([]byte("before"))
		synctest.Wait()
		w.Unplug()
		time.Sleep(time.Second)
		if note := p.State().Note; note == "" {
			t.Error("nothing is said of a device that is away")
		}
		w.Plug(bridgetest.Zwave)
		time.Sleep(3 * time.Second)
		_, _ = w.Port(bridgetest.Zwave.Path).FromDevice.Write([]byte("after"))
		synctest.Wait()
		if note := p.State().Note; note != "" {
			t.Errorf("the device is back, and it says %q", note)
		}
		buf := make([]byte, 100)
		for _, want := range []remote.Piece{{N: 6, End: 6}, {End: 6, Gap: remote.Gap{Unknown: true}}, {N: 5, End: 11}} {
			if piece, err := p.Next(buf); err != nil || piece != want {
				t.Errorf("have %+v, %v; want %+v", piece, err, want)
			}
		}
		_ = p.Close()
	})
}

// TestPortPurgeStuck: a device that takes nothing holds up neither a purge nor,
// after it, what is written then.
func TestPortPurgeStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		p := openPort(w, "garage-zwave", remote.Options{})
		wrote := make(chan error, 1)
		w.Running.Go(func() {
			_, err := p.Write(make([]byte, 400<<10)) // more than the window
			wrote <- err
		})
		time.Sleep(time.Second) // all acknowledgements are there
		select {
		case err := <-wrote:
			t.Fatalf("all was taken by a device that takes nothing: %v", err)
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Purge(session.PurgeTransmit); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Purged(ctx, session.PurgeTransmit); err != nil {
			t.Errorf("purged: %v", err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("the write that waited: %v", err)
		}
		if _, err := p.Write([]byte("after")); err != nil {
			t.Fatal(err)
		}
		if err := p.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if have, err := bridgetest.ReadExactly(bridgetest.ReadFunc(w.Port(bridgetest.Zwave.Path).ToDevice.Read), 5); err != nil || string(have) != "after" {
			t.Errorf("the device got %q, %v", have, err)
		}
		_ = p.Close()
	})
}

// TestPortReadOnly: who reads along changes nothing, and delays nobody.
func TestPortReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll}, bridgetest.Pinned)
		defer w.Close()
		name := w.Device("garage-serial").Name
		p := openPort(w, name, remote.Options{ReadOnly: true})
		ctx := context.Background()
		_, writeErr := p.Write([]byte("x"))
		for what, err := range map[string]error{
			"write": writeErr, "line": p.SetLine(ctx, line.Default()), "modem": p.SetModem(ctx, line.DTR, 0),
			"break": p.Break(ctx, time.Second), "purge": p.Purge(session.PurgeTransmit),
		} {
			if !errors.Is(err, remote.ErrReadOnly) {
				t.Errorf("%s: %v", what, err)
			}
		}
		port := w.Port(bridgetest.Pinned.Path)
		_, _ = port.FromDevice.Write([]byte("hello"))
		if have, err := bridgetest.ReadExactly(p, 5); err != nil || string(have) != "hello" {
			t.Errorf("read %q, %v", have, err)
		}
		if s := w.Only(); !s.ReadOnly || port.ToDevice.Len() != 0 {
			t.Errorf("session %+v, the device got %d bytes", s, port.ToDevice.Len())
		}
		_ = p.Close()
		_, err := w.Consumer(2, 0).Attacher.OpenPort(ctx, name, remote.Options{ReadOnly: true, Line: line.Default()})
		if !errors.Is(err, remote.ErrReadOnly) {
			t.Errorf("opened to read along with line settings: %v", err)
		}
	})
}

// TestPortOutlivesCut: requests asked for while the way is broken are done when
// it is back.
func TestPortOutlivesCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll}, bridgetest.Pinned)
		defer w.Close()
		p := openPort(w, w.Device("garage-serial").Name, remote.Options{})
		w.Cut()
		w.Set(func() { w.Down = true })
		done := make(chan error, 1)
		w.Running.Go(func() { done <- p.SetLine(context.Background(), line.Settings{Baud: 300, DataBits: 8}) })
		time.Sleep(2 * time.Second)
		if note := p.State().Note; note == "" {
			t.Error("nothing is said of a way that is broken")
		}
		select {
		case err := <-done:
			t.Fatalf("done without a way to the device: %v", err)
		default:
		}
		w.Set(func() { w.Down = false })
		w.Changed()
		if err := <-done; err != nil || w.Port(bridgetest.Pinned.Path).Line().Baud != 300 {
			t.Errorf("%v, line settings %v", err, w.Port(bridgetest.Pinned.Path).Line())
		}
		_ = p.Close()
	})
}

// TestPortFailureInTime: what the device did not do is known when the request
// returns, every time.
func TestPortFailureInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll}, bridgetest.Pinned)
		defer w.Close()
		p := openPort(w, w.Device("garage-serial").Name, remote.Options{})
		for i := range 300 {
			if err := p.Reset(context.Background(), "none"); !errors.Is(err, remote.ErrDevice) {
				t.Fatalf("reset %d by a recipe that is not there: %v", i, err)
			}
			if err := p.SetModem(context.Background(), line.DTR, 0); err != nil {
				t.Fatalf("after reset %d: %v", i, err)
			}
		}
		_ = p.Close()
	})
}

// TestPortAnsweredAtOnce: a request takes its round trip and no more.
func TestPortAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Publish: rule.PublishAll}, bridgetest.Pinned)
		defer w.Close()
		p := openPort(w, w.Device("garage-serial").Name, remote.Options{})
		began := time.Now()
		for _, err := range []error{
			p.SetModem(context.Background(), line.DTR, 0), p.SetLine(context.Background(), line.Settings{Baud: 300, DataBits: 8}), p.Drain(context.Background()),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("three requests took %v where streams take no time", took)
		}
		_ = p.Close()
	})
}

// TestPortGapOfLostSession: what a session that is lost takes with it is told where
// the next begins.
func TestPortGapOfLostSession(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(w *bridgetest.World, p *remote.Port)
		want []remote.Gap
	}{
		{"ended by the owner", func(w *bridgetest.World, _ *remote.Port) {
			w.Publisher.EndPeer(identity.NodeID{1}, session.CloseError{Code: session.CodeKicked})
		}, []remote.Gap{{Unknown: true}}},
		{"owner restarted", func(w *bridgetest.World, p *remote.Port) {
			w.Set(func() { w.Down = true })
			w.Cut()
			if _, err := p.Write([]byte("lost")); err != nil {
				t.Error(err)
			}
			w.RestartOwner(publish.Config{})
			w.Set(func() { w.Down = false })
		}, []remote.Gap{{ToDevice: true, Lost: 4}, {Unknown: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
				defer w.Close()
				p := openPort(w, "garage-zwave", remote.Options{})
				defer p.Close()
				defer time.AfterFunc(time.Minute, func() { _ = p.Close() }).Stop()
				test.lose(w, p)
				for _, want := range test.want {
					piece, err := p.Next(make([]byte, 10))
					if err != nil || piece.Gap != want {
						t.Errorf("%+v, %v; want the gap %+v", piece, err, want)
					}
				}
			})
		})
	}
}

// TestPortToldOfCut: who shows a port learns that there is something new to show.
func TestPortToldOfCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
		defer w.Close()
		var told atomic.Int32
		p := openPort(w, "garage-zwave", remote.Options{Changed: func() { told.Add(1) }})
		defer p.Close()
		synctest.Wait()
		before := told.Load()
		w.Set(func() { w.Down = true })
		w.Cut()
		synctest.Wait()
		if told.Load() == before || p.State().Note == "" {
			t.Errorf("told %d times of a cut, which is noted as %q", told.Load()-before, p.State().Note)
		}
	})
}
