package device_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// TestKickedWhileAway: who was kicked while it was out of reach does not take
// the device back when it returns.
func TestKickedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, publish.Config{Hold: time.Minute}, bridgetest.Zwave)
		defer w.Close()
		first, second := w.Consumer(1, time.Minute), w.Consumer(2, time.Minute)
		one := w.OpenRaw(first, "garage-zwave", use.TakeNormal)
		w.Set(func() { w.Down = true })
		w.Cut()
		time.Sleep(10 * time.Second)
		w.Set(func() { w.Down = false })
		two := w.OpenRaw(second, "garage-zwave", use.TakeNormal)
		time.Sleep(30 * time.Second)
		if d := w.Device("garage-zwave"); d.User != second.ID {
			t.Errorf("used by %v", d.User)
		}
		_ = two.Close()
		time.Sleep(3 * time.Second)
		if d := w.Device("garage-zwave"); d.User != first.ID {
			t.Errorf("after the release used by %v, %v", d.User, d.State)
		}
		_ = one.Close()
	})
}

// TestOvertakenOpen: an open takes the place of the sessions that it names, and
// an open for one of those that arrives behind it changes nothing.
func TestOvertakenOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bridgetest.NewWorld(t, bridgetest.Refusing(), bridgetest.Zwave)
		defer w.Close()
		me, other := w.Consumer(1, 0).ID, w.Consumer(2, 0).ID
		old, late, now := session.ID{1}, session.ID{2}, session.ID{3}
		if _, err := w.TryOwner(me, session.Open{Device: "garage-zwave", ID: old}); err != nil {
			t.Fatal(err)
		}
		w.Cut()
		synctest.Wait()
		if _, err := w.TryOwner(other, session.Open{Device: "garage-zwave", ID: session.ID{4}, Replaces: []session.ID{old}}); !errors.Is(err, session.CodeBusy) {
			t.Errorf("a session of somebody else was replaced: %v", err)
		}
		if _, err := w.TryOwner(me, session.Open{Device: "garage-zwave", ID: now, Replaces: []session.ID{old, late}}); err != nil {
			t.Fatalf("not let in, in place of its own session: %v", err)
		}
		w.Publisher.Update(rule.Policy{}) // the newest wins
		synctest.Wait()
		for _, open := range []session.Open{{ID: old, Resume: true}, {ID: old}, {ID: late}} {
			open.Device, open.Take = "garage-zwave", session.TakeNormal
			if _, err := w.TryOwner(me, open); !errors.Is(err, session.CodeKicked) {
				t.Errorf("an open that was overtaken: %v", err)
			}
		}
		// Of the live session: a later attempt goes on, an earlier one does not.
		again := session.Open{Device: "garage-zwave", ID: now, Resume: true, Attempt: 3}
		if _, err := w.TryOwner(me, again); err != nil {
			t.Fatal(err)
		}
		for again.Attempt = 1; again.Attempt <= 3; again.Attempt++ {
			for _, again.Resume = range []bool{true, false} {
				if _, err := w.TryOwner(me, again); !errors.Is(err, session.CodeKicked) {
					t.Errorf("attempt %d after 3: %v", again.Attempt, err)
				}
			}
		}
		if all := w.Publisher.Sessions(); len(all) != 1 || all[0].ID != now {
			t.Errorf("sessions: %+v", all)
		}
	})
}
