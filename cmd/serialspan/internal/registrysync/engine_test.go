package registrysync_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/registrysync"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

const interval = 30 * time.Second // the default

func TestConvergence(t *testing.T) {
	for _, n := range []int{3, 8, 20} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, n)
			defer h.stopAll()
			for _, m := range h.nodes {
				m.publish(m.devices(2)...) // before anybody listens
			}
			h.run(h.nodes...)
			// Nobody heard the broadcasts; comparing at the start finds out.
			h.within(time.Second, "all hold the same after the start", func() bool { return agree(h.nodes...) })
			if got := len(h.nodes[0].registry.Devices(h.now())); got != 2*n {
				t.Errorf("%d devices, want %d", got, 2*n)
			}
			h.nodes[n-1].publish(h.nodes[n-1].devices(3)...)
			h.within(0, "a change reaches all by broadcast", func() bool { return agree(h.nodes...) })
			if got := len(h.nodes[0].registry.Devices(h.now())); got != 2*n+1 {
				t.Errorf("%d devices, want %d", got, 2*n+1)
			}
		})
	}
}

func TestAllBroadcastsLost(t *testing.T) {
	for _, n := range []int{3, 20} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, n)
			defer h.stopAll()
			h.deaf = true
			h.run(h.nodes...)
			for i, m := range h.nodes {
				m.publish(m.devices(1 + i%3)...)
			}
			// Random comparisons spread like an epidemic: log2(20) rounds and
			// as many again for the last ones.
			h.within(10*interval, "all hold the same by comparing", func() bool { return agree(h.nodes...) })
			h.nodes[0].publish()
			h.within(10*interval, "a removal too", func() bool { return agree(h.nodes...) })
		})
	}
}

func TestNewMemberIsGreeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 5)
		defer h.stopAll()
		h.deaf = true
		h.run(h.nodes[:4]...)
		for _, m := range h.nodes[:4] {
			m.publish(m.devices(1)...)
		}
		h.within(10*interval, "the old ones agree", func() bool { return agree(h.nodes[:4]...) })
		late := h.nodes[4]
		late.publish(late.devices(1)...)
		h.run(late)
		h.within(time.Second, "the newcomer and all others hold the same", func() bool { return agree(h.nodes...) })
		before := h.dialed.Load()
		time.Sleep(100 * interval)
		if d := h.dialed.Load() - before; d < 4*100 || d > 7*100 {
			t.Errorf("%d comparisons of 5 members in 100 intervals, want about 500", d)
		}
	})
}

func TestPartitionAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 12)
		defer h.stopAll()
		for _, m := range h.nodes {
			m.publish(m.devices(2)...)
		}
		h.run(h.nodes...)
		h.within(time.Second, "all hold the same", func() bool { return agree(h.nodes...) })
		sides := make(map[*member]int)
		for _, m := range h.nodes[:4] {
			sides[m] = 1
		}
		h.partition(sides)
		h.nodes[0].publish()
		h.nodes[5].publish(h.nodes[5].devices(3)...)
		h.within(10*interval, "each side agrees", func() bool { return agree(h.nodes[:4]...) && agree(h.nodes[4:]...) })
		if agree(h.nodes...) {
			t.Error("the sides agree with each other while they are apart")
		}
		h.partition(nil)
		h.within(time.Second, "all hold the same again", func() bool { return agree(h.nodes...) })
		if got := len(h.nodes[0].registry.Devices(h.now())); got != 2*12-2+1 {
			t.Errorf("%d devices", got)
		}
	})
}

func TestLargeListIsFetchedAfterAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 4)
		defer h.stopAll()
		h.run(h.nodes...)
		big := h.nodes[0]
		big.publish(big.devices(100)...)
		h.within(time.Second, "100 devices reach all", func() bool { return agree(h.nodes...) })
		big.publish(big.devices(60)...)
		h.within(time.Second, "and the removal of 40", func() bool { return agree(h.nodes...) })
		if got := len(h.nodes[3].registry.Devices(h.now())); got != 60 {
			t.Errorf("%d devices", got)
		}
	})
}

func TestFailedComparisonIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 2)
		defer h.stopAll()
		h.deaf = true
		for _, m := range h.nodes {
			m.publish(m.devices(1)...)
		}
		h.refuse.Store(4) // two of each: at the start and after a second
		h.run(h.nodes...)
		h.within(8*time.Second, "both hold the same, long before the interval", func() bool { return agree(h.nodes...) })
	})
}

func TestHoldEndsWakeWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 3)
		defer h.stopAll()
		h.run(h.nodes...)
		stick := registry.Device{Name: "zwave"}
		h.nodes[0].publish(stick)
		synctest.Wait()
		h.nodes[1].publish(stick)
		synctest.Wait()
		changes, stop := h.nodes[2].registry.Watch()
		defer stop()
		stick.State = registry.StateAway
		h.nodes[0].publish(stick)
		began := h.now()
		for moved := false; !moved; {
			select {
			case <-changes:
			case <-time.After(time.Minute):
				t.Fatal("nobody was told that the hold ended")
			}
			if s, err := h.nodes[2].registry.Resolve(h.now(), "zwave"); err == nil && s.Owner == h.nodes[1].id.ID() {
				moved = true
			}
		}
		if took := h.now() - began; took < 15*time.Second || took > 16*time.Second {
			t.Errorf("the name moved after %v, want just over 15 s", took)
		}
	})
}

// TestClaimMadeInIgnorance: two nodes that start apart with one name; the
// older claim wins without anybody publishing again.
func TestClaimMadeInIgnorance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 2)
		defer h.stopAll()
		old, fresh := h.nodes[0], h.nodes[1]
		if old.id.ID().Compare(fresh.id.ID()) < 0 {
			old, fresh = fresh, old // so that the NodeID would decide wrongly
		}
		h.run(old)
		old.publish(registry.Device{Name: "zwave"})
		time.Sleep(2 * time.Minute)
		old.publish(registry.Device{Name: "zwave", Detail: "still here"})
		fresh.publish(registry.Device{Name: "zwave"})
		h.run(fresh)
		h.within(time.Second, "the older claim has the name everywhere", func() bool {
			for _, m := range h.nodes {
				s, err := m.registry.Resolve(h.now(), "zwave")
				if err != nil || s.Owner != old.id.ID() {
					return false
				}
			}
			return agree(h.nodes...)
		})
	})
}

func TestRunEndsInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, 2)
		a, b := h.nodes[0], h.nodes[1]
		h.mu.Lock()
		b.stop = func() {} // alive, but it does not take streams
		h.mu.Unlock()
		h.run(a)
		near, far := net.Pipe()
		defer near.Close()
		a.streams <- stream{far, b.id.ID()}
		near.Write([]byte{1}) // and then says no more
		synctest.Wait()
		began := h.now()
		h.stopAll()
		if h.now() != began {
			t.Errorf("Run took %v to end", h.now()-began)
		}
	})
}

func TestRunReportsAcceptFailure(t *testing.T) {
	broken := errors.New("broken")
	e := registrysync.New(registrysync.Config{
		Registry: registry.New(registry.Config{Identity: identity.FromSeed([32]byte{1})}),
		Peers:    func() []identity.NodeID { return nil },
		Dial:     func(context.Context, identity.NodeID) (net.Conn, error) { return nil, broken },
		Accept:   func(context.Context) (net.Conn, identity.NodeID, error) { return nil, identity.NodeID{}, broken },
	})
	if err := e.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := e.Publish([]registry.Device{{Name: "a"}}); err != nil {
		t.Errorf("publish without broadcasts: %v", err)
	}
}

// TestConfigFields: required fields are checked, the others have defaults.
func TestConfigFields(t *testing.T) {
	required := map[string]bool{"Registry": true, "Peers": true, "Dial": true, "Accept": true}
	optional := map[string]bool{"Self": true, "Broadcast": true, "Interval": true, "IdleTimeout": true, "Now": true, "Logger": true}
	for f := range reflect.TypeFor[registrysync.Config]().Fields() {
		if !required[f.Name] && !optional[f.Name] {
			t.Errorf("field %s: say here whether it is required", f.Name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an empty Config is taken")
		}
	}()
	registrysync.New(registrysync.Config{})
}

// A broadcast is not passed on: the carrier floods it, and n members that each
// broadcast it again would make n floods of one.
func TestBroadcastIsTakenAndNotPassedOn(t *testing.T) {
	h := newHub(t, 2)
	owner, other := h.nodes[0].registry, h.nodes[1].registry
	messages, err := owner.Publish(0, h.nodes[0].devices(5))
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	e := registrysync.New(registrysync.Config{
		Registry:  other,
		Peers:     func() []identity.NodeID { return nil },
		Dial:      h.nodes[1].dial,
		Accept:    h.nodes[1].accept,
		Broadcast: func(string, []byte) { passed++ },
	})
	for range 3 {
		for _, m := range messages {
			e.OnBroadcast(m.Wire)
		}
		e.OnBroadcast([]byte("garbage"))
	}
	if passed != 0 {
		t.Errorf("%d broadcasts passed on", passed)
	}
	if got := len(other.Devices(0)); got != 5 {
		t.Errorf("%d devices known after the broadcasts; want 5", got)
	}
}
