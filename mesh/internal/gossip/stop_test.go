package gossip_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/gossip"
)

// TestStopIsQuick: probes that wait for dead members do not delay the end.
func TestStopIsQuick(t *testing.T) {
	for _, wait := range []time.Duration{0, 5 * time.Second, 11 * time.Second, 17 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 6, lan)
				c.cut(c.nodes[:3], c.nodes[3:], true)
				time.Sleep(wait + 1234*time.Millisecond)
				for _, n := range c.nodes {
					begin := time.Now()
					n.stop()
					if d := time.Since(begin); d > 200*time.Millisecond {
						t.Errorf("Run ended after %v", d)
					}
				}
			})
		})
	}
}

func TestStopDuringJoinAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, lan)
		a := c.start(0, 1, nil)
		silent := identity.FromSeed([32]byte{77}).ID()
		done := make(chan error, 2)
		go func() { done <- a.Join(t.Context(), []identity.NodeID{silent}) }()
		time.Sleep(time.Second)
		begin := time.Now()
		a.stop()
		if err := <-done; err == nil {
			t.Error("Join of nobody succeeded")
		}
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("ended after %v", d)
		}
		if err := a.Join(t.Context(), []identity.NodeID{silent}); !errors.Is(err, gossip.ErrNotRunning) {
			t.Errorf("Join after Run: %v", err)
		}
		if err := a.Leave(time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Leave after Run: %v", err)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		a.UpdateMeta()
		_ = a.Broadcast("x", []byte("y"))
	})
}

func TestJoinEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, lan)
		a, b := c.start(0, 1, nil), c.start(1, 1, nil)
		c.cut([]*node{a}, []*node{b}, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := a.Join(ctx, []identity.NodeID{b.id}); err == nil {
			t.Error("Join over a cut succeeded")
		}
		if d := time.Since(begin); d != time.Second {
			t.Errorf("after %v, want 1s", d)
		}
		if err := a.Join(t.Context(), nil); err != nil {
			t.Errorf("Join of none: %v", err)
		}
	})
}

func TestOtherKeyOrLabelStaysOut(t *testing.T) {
	rows := map[string]func(*gossip.Config){
		"key":   func(c *gossip.Config) { c.Key[0] ^= 1 },
		"label": func(c *gossip.Config) { c.Label = "cluster-two" },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := grown(t, 2, lan)
				stranger := c.start(8, 1, change)
				if err := stranger.Join(t.Context(), []identity.NodeID{c.nodes[0].id}); err == nil {
					t.Error("Join succeeded")
				}
				time.Sleep(10 * time.Second)
				if c.nodes[0].state(stranger.id) != 0 || stranger.state(c.nodes[0].id) != 0 {
					t.Error("the stranger is known")
				}
			})
		})
	}
}

func TestLogsGoThroughSlogAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &counter{level: slog.LevelDebug}
		c := newCluster(t, lan)
		a := c.start(0, 1, nil)
		b := c.start(1, 1, func(cfg *gossip.Config) { cfg.Logger = slog.New(h) })
		if err := b.Join(t.Context(), []identity.NodeID{a.id}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.records == 0 || h.records > 20 || h.above > 0 || h.longest > 300 {
			t.Errorf("%d records in ten quiet minutes, %d above debug, longest %d bytes", h.records, h.above, h.longest)
		}
	})
}

// counter is a slog.Handler that counts.
type counter struct {
	level                   slog.Level
	mu                      sync.Mutex
	records, above, longest int
}

func (c *counter) Enabled(_ context.Context, l slog.Level) bool { return l >= c.level }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c *counter) WithGroup(string) slog.Handler                { return c }
func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records++
	if r.Level > slog.LevelDebug {
		c.above++
	}
	r.Attrs(func(a slog.Attr) bool {
		c.longest = max(c.longest, len(a.Value.String()))
		return true
	})
	return nil
}
