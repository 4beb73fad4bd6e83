package bridge_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
)

// Port opens a device of w as a port.
func (w *world) openPort(device string, o remote.Options) *remote.Port {
	w.t.Helper()
	p, err := w.consumer(1, 0).attacher.OpenPort(context.Background(), device, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestPortGapInPlace: a gap stands between the bytes before and after it.
func TestPortGapInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		p := w.openPort("garage-zwave", remote.Options{})
		_, _ = w.port(zwave.Path).fromDevice.write([]byte("before"))
		synctest.Wait()
		w.unplug()
		time.Sleep(time.Second)
		if note := p.State().Note; note == "" {
			t.Error("nothing is said of a device that is away")
		}
		w.plug(zwave)
		time.Sleep(3 * time.Second)
		_, _ = w.port(zwave.Path).fromDevice.write([]byte("after"))
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
		w := newWorld(t, bridge.PublisherConfig{}, zwave)
		defer w.close()
		p := w.openPort("garage-zwave", remote.Options{})
		wrote := make(chan error, 1)
		w.running.Go(func() {
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
		if have, err := readExactly(readFunc(w.port(zwave.Path).toDevice.read), 5); err != nil || string(have) != "after" {
			t.Errorf("the device got %q, %v", have, err)
		}
		_ = p.Close()
	})
}

// TestPortReadOnly: who reads along changes nothing, and delays nobody.
func TestPortReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll}, pinned)
		defer w.close()
		name := w.device("garage-serial").Name
		p := w.openPort(name, remote.Options{ReadOnly: true})
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
		port := w.port(pinned.Path)
		_, _ = port.fromDevice.write([]byte("hello"))
		if have, err := readExactly(p, 5); err != nil || string(have) != "hello" {
			t.Errorf("read %q, %v", have, err)
		}
		if s := w.only(); !s.ReadOnly || port.toDevice.len() != 0 {
			t.Errorf("session %+v, the device got %d bytes", s, port.toDevice.len())
		}
		_ = p.Close()
		_, err := w.consumer(2, 0).attacher.OpenPort(ctx, name, remote.Options{ReadOnly: true, Line: line.Default()})
		if !errors.Is(err, remote.ErrReadOnly) {
			t.Errorf("opened to read along with line settings: %v", err)
		}
	})
}

// TestPortOutlivesCut: requests asked for while the way is broken are done when
// it is back.
func TestPortOutlivesCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll}, pinned)
		defer w.close()
		p := w.openPort(w.device("garage-serial").Name, remote.Options{})
		w.cut()
		w.set(func() { w.down = true })
		done := make(chan error, 1)
		w.running.Go(func() { done <- p.SetLine(context.Background(), line.Settings{Baud: 300, DataBits: 8}) })
		time.Sleep(2 * time.Second)
		if note := p.State().Note; note == "" {
			t.Error("nothing is said of a way that is broken")
		}
		select {
		case err := <-done:
			t.Fatalf("done without a way to the device: %v", err)
		default:
		}
		w.set(func() { w.down = false })
		w.changed()
		if err := <-done; err != nil || w.port(pinned.Path).Line().Baud != 300 {
			t.Errorf("%v, line settings %v", err, w.port(pinned.Path).Line())
		}
		_ = p.Close()
	})
}

// TestPortFailureInTime: what the device did not do is known when the request
// returns, every time.
func TestPortFailureInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll}, pinned)
		defer w.close()
		p := w.openPort(w.device("garage-serial").Name, remote.Options{})
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
		w := newWorld(t, bridge.PublisherConfig{Publish: rule.PublishAll}, pinned)
		defer w.close()
		p := w.openPort(w.device("garage-serial").Name, remote.Options{})
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
