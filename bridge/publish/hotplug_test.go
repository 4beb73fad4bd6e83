package publish_test

import (
	"context"
	"errors"
	"reflect"
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
)

// TestWatch: an event is acted on at once, and without one the look is slow.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan func(), 1)
		w := bridgetest.NewWorld(t, publish.Config{Watch: func(ctx context.Context, changed func()) error {
			changed()
			events <- changed
			<-ctx.Done()
			return nil
		}})
		defer w.Close()
		changed := <-events
		synctest.Wait()
		w.Plug(bridgetest.Zwave)
		time.Sleep(20 * time.Second)
		if have := w.Published(); have != nil {
			t.Errorf("published %q without an event", have)
		}
		changed()
		if have := w.Published(); !reflect.DeepEqual(have, []string{"garage-zwave zwave 1-1 available"}) {
			t.Errorf("published %q", have)
		}
		w.Plug()
		time.Sleep(31 * time.Second)
		if have := w.Published(); !reflect.DeepEqual(have, []string{"garage-zwave zwave 1-1 away"}) {
			t.Errorf("an event that was lost: %q", have)
		}
	})
}

// TestBrokenWatch: without events the look is fast, and the watch is tried
// again.
func TestBrokenWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		w := bridgetest.NewWorld(t, publish.Config{Watch: func(context.Context, func()) error {
			tries++
			return errors.New("permission denied")
		}})
		defer w.Close()
		synctest.Wait()
		w.Plug(bridgetest.Zwave)
		time.Sleep(1500 * time.Millisecond)
		if have := w.Published(); len(have) != 1 {
			t.Errorf("published %q", have)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if tries < 4 || tries > 7 {
			t.Errorf("%d tries in five minutes", tries)
		}
	})
}

// TestWatchPaths: a tty that a rule names is looked at when it is told of, and
// each second only while nobody can tell.
func TestWatchPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path = "/dev/gps"
		var there atomic.Bool
		var looks atomic.Int32
		events, broken := make(chan func(), 1), make(chan error)
		config := publish.Config{
			Exists: func(string) bool { looks.Add(1); return there.Load() },
			Watch:  func(ctx context.Context, changed func()) error { changed(); <-ctx.Done(); return nil },
			WatchPaths: func(ctx context.Context, paths []string, changed func()) error {
				if !reflect.DeepEqual(paths, []string{path}) {
					t.Errorf("watches %q", paths)
				}
				changed()
				events <- changed
				select {
				case err := <-broken:
					return err
				case <-ctx.Done():
					return nil
				}
			},
		}
		config.Rules = []rule.Rule{{Match: rule.Match{Path: path}, Name: "gps"}}
		w := bridgetest.NewWorld(t, config)
		defer w.Close()
		is := func(want string) {
			t.Helper()
			synctest.Wait()
			if have := strings.Join(w.Published(), ", "); have != want {
				t.Errorf("published %q, want %q", have, want)
			}
		}
		changed := <-events
		synctest.Wait()
		there.Store(true)
		looks.Store(0)
		time.Sleep(20 * time.Second)
		if is(""); looks.Load() > 0 {
			t.Errorf("looked %d times without being told", looks.Load())
		}
		changed()
		is("gps serial /dev/gps fault")
		there.Store(false)
		broken <- errors.New("no more watches")
		is("gps serial /dev/gps away")
		there.Store(true)
		time.Sleep(1100 * time.Millisecond)
		is("gps serial /dev/gps fault")
		time.Sleep(time.Minute)
		there.Store(false)
		(<-events)()
		is("gps serial /dev/gps away")
		w.Publisher.Update(rule.Policy{})
		synctest.Wait() // nobody watches the path any more
	})
}

// TestMoved: the stick is at another owner now.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stick := bridgetest.USB("/dev/ttyUSB0", "10c4", "ea60", "abc", "1-3")
		rules := []rule.Rule{{Match: rule.Match{VID: "10c4"}, Name: "lab"}}
		w := bridgetest.NewWorld(t, publish.Config{Rules: rules}, stick)
		defer w.Close()
		c := w.DialOwner(session.Open{Device: "lab", Take: session.TakeNormal})
		if _, err := w.Port(stick.Path).FromDevice.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		there := identity.NodeID{9}
		h := stick.Hardware
		h.Port = "3-1"
		if w.Publisher.Moved(h, there) {
			t.Error("moved while it is here")
		}
		w.Unplug()
		time.Sleep(1500 * time.Millisecond)
		other := h
		other.Serial = "abd"
		if w.Publisher.Moved(other, there) || !w.Publisher.Moved(h, there) || w.Publisher.Moved(h, there) {
			t.Error("not moved once")
		}
		err := <-c.Ended
		if !errors.Is(err, session.CodeMoved) || !strings.Contains(err.Error(), there.Short()) {
			t.Errorf("ended with %v", err)
		}
		if have := c.Got(); have != "last words" {
			t.Errorf("delivered %q", have)
		}
		if have := w.Published(); have != nil {
			t.Errorf("published %q", have)
		}
		w.Plug(stick)
		time.Sleep(1500 * time.Millisecond)
		if have := w.Published(); len(have) != 1 {
			t.Errorf("after it came back: published %q", have)
		}
		c.Close()
		_ = w.OpenRaw(w.Consumer(1, 0), "lab", use.TakeNormal).Close()
	})
}
