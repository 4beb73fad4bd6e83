package bridge_test

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// TestKickedWhileAway: who was kicked while it was out of reach does not take
// the device back when it returns.
func TestKickedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bridge.PublisherConfig{Hold: time.Minute}, zwave)
		defer w.close()
		first, second := w.consumer(1, time.Minute), w.consumer(2, time.Minute)
		one := w.openRaw(first, "garage-zwave", use.TakeNormal)
		w.set(func() { w.down = true })
		w.cut()
		time.Sleep(10 * time.Second)
		w.set(func() { w.down = false })
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
		_ = one.Close()
	})
}

// TestOvertakenOpen: an open takes the place of the sessions that it names, and
// an open for one of those that arrives behind it changes nothing.
func TestOvertakenOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, refusing(), zwave)
		defer w.close()
		me, other := w.consumer(1, 0).id, w.consumer(2, 0).id
		old, late, now := session.ID{1}, session.ID{2}, session.ID{3}
		if _, err := w.tryOwner(me, session.Open{Device: "garage-zwave", ID: old}); err != nil {
			t.Fatal(err)
		}
		w.cut()
		synctest.Wait()
		if _, err := w.tryOwner(other, session.Open{Device: "garage-zwave", ID: session.ID{4}, Replaces: []session.ID{old}}); !errors.Is(err, session.CodeBusy) {
			t.Errorf("a session of somebody else was replaced: %v", err)
		}
		if _, err := w.tryOwner(me, session.Open{Device: "garage-zwave", ID: now, Replaces: []session.ID{old, late}}); err != nil {
			t.Fatalf("not let in, in place of its own session: %v", err)
		}
		w.publisher.Update(rule.Policy{}) // the newest wins
		synctest.Wait()
		for _, open := range []session.Open{{ID: old, Resume: true}, {ID: old}, {ID: late}} {
			open.Device, open.Take = "garage-zwave", session.TakeNormal
			if _, err := w.tryOwner(me, open); !errors.Is(err, session.CodeKicked) {
				t.Errorf("an open that was overtaken: %v", err)
			}
		}
		// Of the live session: a later attempt goes on, an earlier one does not.
		again := session.Open{Device: "garage-zwave", ID: now, Resume: true, Attempt: 3}
		if _, err := w.tryOwner(me, again); err != nil {
			t.Fatal(err)
		}
		for again.Attempt = 1; again.Attempt <= 3; again.Attempt++ {
			for _, again.Resume = range []bool{true, false} {
				if _, err := w.tryOwner(me, again); !errors.Is(err, session.CodeKicked) {
					t.Errorf("attempt %d after 3: %v", again.Attempt, err)
				}
			}
		}
		if all := w.publisher.Sessions(); len(all) != 1 || all[0].ID != now {
			t.Errorf("sessions: %+v", all)
		}
	})
}

// TestReopenedWhileAway: an application that is closed and opened again while
// the owner is out of reach finds the device free, not held by itself.
func TestReopenedWhileAway(t *testing.T) {
	b := newBench(t, time.Minute)
	b.publisher.Update(rule.Policy{Rules: []rule.Rule{{Match: rule.Match{Path: b.path}, Name: "lab", Busy: rule.BusyRefuse}}})
	link := filepath.Join(t.TempDir(), "tty")
	if _, err := b.attacher.Attach(bridge.Spec{Device: "lab", PTY: &bridge.PTYSpec{Link: link}}); err != nil {
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
