package quicnet_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestNudge: what was lost during a cut arrives a few round trips after a nudge,
// where the connection alone would wait for its back-off.
func TestNudge(t *testing.T) {
	after := func(nudge bool) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
			ids := who(t, 2)
			a, b := start(t, hub, ids[0], ids[0].ID(), nil), start(t, hub, ids[1], ids[1].ID(), nil)
			c, err := a.Dial(t.Context(), b.id, "echo")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			a.Nudge(ids[1].ID(), "no such \x00 protocol") // does nothing
			roundTrip(t, c, "before")
			one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
			hub.Cut(one, other)
			go func() {
				time.Sleep(520 * time.Millisecond)
				hub.Heal(one, other)
				if nudge {
					a.Nudge(b.id, "sink")
				}
			}()
			begin := time.Now()
			roundTrip(t, c, "during")
			took = time.Since(begin) - 520*time.Millisecond
		})
		return took
	}
	alone, nudged := after(false), after(true)
	t.Logf("back %v after a cut of 520 ms, %v when nudged", alone, nudged)
	if nudged > 6*oneWay || nudged >= alone {
		t.Errorf("back %v after the cut, want at most %v", nudged, 6*oneWay)
	}
}

// TestNudgeWithoutConnection: it begins none.
func TestNudgeWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memnet.New(memnet.Config{})
		ids := who(t, 2)
		a := start(t, hub, ids[0], ids[0].ID(), nil)
		a.Nudge(ids[1].ID(), "sink")
		synctest.Wait()
		if sent := hub.Stats().Sent; sent != 0 {
			t.Errorf("%d datagrams sent", sent)
		}
	})
}

// TestNudgeDuringDial: a dial whose datagrams were lost does not wait for its
// next time-out when there is another path.
func TestNudgeDuringDial(t *testing.T) {
	const oneWay, cut = 10 * time.Millisecond, 700 * time.Millisecond
	for _, nudge := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
			ids := who(t, 2)
			a, b := start(t, hub, ids[0], ids[0].ID(), nil), start(t, hub, ids[1], ids[1].ID(), nil)
			one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
			hub.Cut(one, other)
			go func() {
				time.Sleep(cut)
				hub.Heal(one, other)
				if nudge {
					a.Nudge(b.id, "sink")
				}
			}()
			begin := time.Now()
			c, err := a.Dial(t.Context(), b.id, "echo")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			took := time.Since(begin) - cut
			t.Logf("connected %v after the cut, nudged: %v", took, nudge)
			if nudge && took > 4*oneWay {
				t.Errorf("connected %v after the cut", took)
			}
			roundTrip(t, c, "through")
		})
	}
}
