package mesh_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/meshtest"
)

// TestKubeSpan has three nodes of a KubeSpan and two plain ones in a mesh. The
// KubeSpan dies in silence under running streams, which lose nothing; it comes
// back, vanishes from one node and comes back with another address. Talos forces what its nodes send to
// each other into it all the while: without the right to mark their datagrams
// they go through a plain one.
func TestKubeSpan(t *testing.T) {
	for _, c := range []struct {
		name         string
		unprivileged bool
		without      string // path without the KubeSpan, a prefix
	}{{"may mark", false, "direct"}, {"may not mark", true, "via p"}} {
		t.Run(c.name, func(t *testing.T) {
			overSeeds(t, 1, "longest pause when the KubeSpan dies", func(t *testing.T, seed uint64) (worst time.Duration) {
				w := newSpanWorld(t, seed, c.unprivileged)
				w.settle(t, "kubespan", time.Minute)
				for range 2 {
					a, b := w.pair()
					pause := pump(t, a, b, w.span.Kill)
					worst = max(worst, pause)
					if !strings.HasPrefix(path(a, b), c.without) || !strings.HasPrefix(path(b, a), c.without) {
						t.Errorf("in a dead KubeSpan: paths %q and %q, want %s", path(a, b), path(b, a), c.without)
					}
					if pause > time.Second {
						t.Errorf("a stream paused for %v when the KubeSpan died", pause)
					}
					time.Sleep(time.Duration(w.random.Int64N(int64(10 * time.Minute))))
					w.span.Revive()
					t.Logf("pause %v; all on the KubeSpan %v after it was back", pause, w.settle(t, "kubespan", 30*time.Second))

					a, b = w.pair()
					for _, change := range []func(*meshtest.Node){w.span.Leave, w.span.Enter, w.span.Enter} {
						time.Sleep(time.Minute + 10*time.Second) // sooner would be flapping
						change(b)
						// Bare datagrams from an address that the other has not yet proved are
						// dropped: if a probe is lost, until the next, a second later, and then
						// until QUIC's time-out, which has doubled meanwhile.
						if first := w.reach(t, a, b); first > 5*time.Second {
							t.Errorf("first byte %v after a node's address changed", first)
						}
					}
					w.settle(t, "kubespan", 30*time.Second)
					time.Sleep(time.Minute + 10*time.Second)
				}
				return worst
			})
		})
	}
}

// spanWorld is a mesh of KubeSpan nodes and plain ones.
type spanWorld struct {
	net    *meshtest.Network
	span   *meshtest.KubeSpan
	random *rand.Rand
	nodes  []*meshtest.Node // of the KubeSpan
}

// newSpanWorld starts two plain nodes, one of the KubeSpan that joins through
// them, and two more that know nothing but the secret, if they can read the
// KubeSpan's peers.
func newSpanWorld(t *testing.T, seed uint64, unprivileged bool) *spanWorld {
	random := rand.New(rand.NewPCG(seed, 2))
	link := meshtest.Link{Delay: time.Duration(1+random.IntN(30)) * time.Millisecond, Loss: 0.01 * random.Float64()}
	net := meshtest.NewSeeded(t, link, seed)
	w := &spanWorld{net: net, span: net.KubeSpan(), random: random}
	w.span.Unprivileged = unprivileged
	o := meshtest.Options{Protocols: []string{"chat/1"}}
	all := []*meshtest.Node{net.Start("p0", o)}
	o.Join = all[:1:1]
	all = append(all, net.Start("p1", o))
	o.KubeSpan = w.span
	for i := range 3 {
		w.nodes = append(w.nodes, net.Start(fmt.Sprintf("k%d", i), o))
		if !unprivileged {
			o.Join = nil
		}
	}
	until(t, time.Minute, "one membership", func() string { return disagreement(append(all, w.nodes...)) })
	return w
}

// pair returns two nodes of the KubeSpan.
func (w *spanWorld) pair() (a, b *meshtest.Node) {
	i := w.random.Perm(len(w.nodes))
	return w.nodes[i[0]], w.nodes[i[1]]
}

// reach has one node send another a byte, on as many streams as it takes, and
// returns how long that took: a stream does not outlive the loss of its path by
// more than 300 ms.
func (w *spanWorld) reach(t *testing.T, a, b *meshtest.Node) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		for ctx.Err() == nil {
			if conn, _, err := b.Accept(ctx, "chat/1"); err == nil {
				_, err := conn.Read(make([]byte, 1))
				conn.Close()
				if err == nil {
					return
				}
			}
		}
	}()
	for {
		conn, err := a.Dial(ctx, b.Self(), "chat/1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err == nil {
			_, _ = conn.Read(make([]byte, 1)) // ends with the stream
		}
		conn.Close()
		select {
		case <-arrived:
			return time.Since(start)
		default:
		}
	}
}

// settle waits until all nodes of the KubeSpan reach each other by a path and
// returns how long that took.
func (w *spanWorld) settle(t *testing.T, want string, limit time.Duration) time.Duration {
	t.Helper()
	return until(t, limit, "path "+want, func() string {
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if p := path(a, b); a != b && p != want {
					return fmt.Sprintf("%q from %s to %s", p, a.Name, b.Name)
				}
			}
		}
		return ""
	})
}
