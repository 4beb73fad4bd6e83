package mesh_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// Sizes of datagrams, as TestWireSize of package tunnel measures them.
const (
	fullSize   = 1296 // our largest on a straight path
	passedSize = 1408 // the same, passed on by a relay
)

// trySize tries the path and returns what was found and how long it took.
func trySize(t *testing.T, from, to *meshtest.Node) (mesh.PathSize, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	size, err := from.TryPathSize(ctx, to.Self())
	if err != nil {
		t.Fatal(err)
	}
	return size, time.Since(began)
}

func TestPathSize(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, test := range []struct {
		name        string
		there, back meshtest.Link
		want        mesh.PathSize // without the path
		within      time.Duration
	}{
		{"all get through", meshtest.Link{}, meshtest.Link{}, mesh.PathSize{There: fullSize, Back: fullSize}, 2 * delay},
		{"just so", meshtest.Link{MTU: fullSize}, meshtest.Link{MTU: fullSize}, mesh.PathSize{There: fullSize, Back: fullSize}, 2 * delay},
		{"black hole both ways", meshtest.Link{MTU: 1252}, meshtest.Link{MTU: 1252}, mesh.PathSize{There: 1252}, 6 * time.Second},
		{"black hole on the way there", meshtest.Link{MTU: fullSize - 1}, meshtest.Link{}, mesh.PathSize{There: fullSize - 1}, 6 * time.Second},
		{"black hole on the way back", meshtest.Link{}, meshtest.Link{MTU: 1252}, mesh.PathSize{There: fullSize, Back: 1252}, 6 * time.Second},
		{"nothing gets through", meshtest.Link{Loss: 1}, meshtest.Link{}, mesh.PathSize{}, 2 * time.Second},
		{"losses", meshtest.Link{Loss: 0.05}, meshtest.Link{Loss: 0.05}, mesh.PathSize{There: fullSize, Back: fullSize}, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, meshtest.Link{Delay: delay})
				a := net.Start("a", meshtest.Options{})
				b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{a}})
				net.WaitFor(2*time.Second, "both to see each other", func() bool { return allAlive(a, b)() && path(a, b) == "direct" })
				test.there.Delay, test.back.Delay = delay, delay
				net.SetDirection(a, b, test.there)
				net.SetDirection(b, a, test.back)
				have, took := trySize(t, a, b)
				test.want.Path, test.want.Endpoint, test.want.Headers = "direct", b.Addr.String(), 28
				test.want.Data, test.want.Full = fullSize, fullSize
				test.want.Seen = have.Seen // TestSeen's subject
				if have != test.want || took > test.within+time.Millisecond {
					t.Errorf("have %+v after %v; want %+v within %v", have, took, test.want, test.within)
				}
			})
		})
	}
}

// Through a relay it is the narrower of two legs that counts, and on each a
// message is larger by what the relay is told.
func TestPathSizeThroughRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		r1, r2, a, b := relayed(t, net)
		say(t, a, b)
		whole := mesh.PathSize{Path: path(a, b), Data: fullSize, Full: fullSize, There: fullSize, Back: fullSize}
		if have, _ := trySize(t, a, b); have != whole {
			t.Errorf("have %+v; want %+v", have, whole)
		}
		const (
			uplink  = 1400 // of a relay to b: 1408 are needed
			largest = 1295 // 16 bytes of NodeID, 49 of headers, 32 of WireGuard's: 1392
		)
		for _, relay := range []*meshtest.Node{r1, r2} {
			net.SetDirection(relay, b, meshtest.Link{Delay: lan.Delay, MTU: uplink})
		}
		if have, _ := trySize(t, a, b); have.There != largest || have.Headers != 0 {
			t.Errorf("over a leg of %d: have %+v; want %d to get there", uplink, have, largest)
		}
		want := mesh.PathSize{Path: "direct", Endpoint: b.Addr.String(), Data: fullSize, Full: passedSize, There: uplink, Headers: 28}
		want.Seen = r1.Addr
		if have, _ := trySize(t, r1, b); have != want {
			t.Errorf("the relay has %+v; want %+v", have, want)
		}
	})
}

func TestPathSizeWithoutPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.New(t, lan)
		a := net.Start("a", meshtest.Options{})
		if _, err := a.TryPathSize(t.Context(), a.Self()); !errors.Is(err, mesh.ErrNoPath) {
			t.Errorf("have %v; want ErrNoPath", err)
		}
	})
}

// Two members outside tell which kind of router a node is behind.
func TestSeen(t *testing.T) {
	for _, test := range []struct {
		name             string
		nat              meshtest.NAT
		translated, same bool
	}{
		{"no router", meshtest.NAT{}, false, true},
		{"one port for all", meshtest.NAT{Kind: meshtest.Cone}, true, true},
		{"another port for each", meshtest.NAT{Kind: meshtest.Symmetric}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				a := net.Start("a", meshtest.Options{})
				b := net.Start("b", meshtest.Options{Join: []*meshtest.Node{a}})
				c := net.Start("c", meshtest.Options{Join: []*meshtest.Node{a, b}, NAT: test.nat})
				net.WaitFor(10*time.Second, "all to see each other", func() bool {
					return allAlive(a, b, c)() && path(c, a) == "direct" && path(c, b) == "direct"
				})
				first, _ := trySize(t, c, a)
				second, _ := trySize(t, c, b)
				if !first.Seen.IsValid() || first.Translated != test.translated || second.Translated != test.translated || (first.Seen == second.Seen) != test.same {
					t.Errorf("seen at %v and %v, translated %v and %v; want translated %v, the same %v", first.Seen, second.Seen, first.Translated, second.Translated, test.translated, test.same)
				}
			})
		})
	}
}
