package quicnet_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

// TestAfterAnyTrouble cuts, renews, forgets and restarts at random while both
// sides dial. Once the network is back and, as the mesh does, both sides have
// renewed, data must flow within a few round trips, and later both sides must
// use one and the same connection.
func TestAfterAnyTrouble(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { trouble(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func trouble(t *testing.T, rng *rand.Rand) {
	hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay, Jitter: oneWay / 2}, Seed: rng.Uint64()})
	ids := who(t, 2)
	var nodes [2]*node
	for i := range nodes {
		nodes[i] = start(t, hub, ids[i], ids[i].ID(), nil)
	}
	one, other := []net.Addr{memnet.AddrOf(nodes[0].id)}, []net.Addr{memnet.AddrOf(nodes[1].id)}
	var wg sync.WaitGroup
	for range 20 {
		i := rng.IntN(2)
		switch rng.IntN(7) {
		case 0:
			hub.Cut(one, other)
		case 1, 2:
			hub.Heal(one, other)
		case 3:
			nodes[i].Renew(nodes[1-i].id)
		case 4:
			nodes[i].Forget(nodes[1-i].id)
		case 5:
			nodes[i].stop()
			nodes[i] = start(t, hub, ids[i], ids[i].ID(), nil)
		}
		for i, n := range nodes {
			to := nodes[1-i].id
			wg.Go(func() {
				c, err := n.Dial(t.Context(), to, "echo")
				if err != nil {
					return
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_ = tryRoundTrip(c, "in trouble")
				_ = c.Close()
			})
		}
		time.Sleep(time.Duration(rng.Int64N(int64(8 * oneWay))))
	}
	hub.Heal(one, other)
	begin := time.Now()
	var calm sync.WaitGroup
	for i, n := range nodes {
		n.Renew(nodes[1-i].id)
		calm.Go(func() {
			for {
				c, err := n.Dial(t.Context(), nodes[1-i].id, "echo")
				if err == nil {
					err = tryRoundTrip(c, "calm")
					_ = c.Close()
				}
				var lost *quicnet.LostError
				if err != nil && !errors.As(err, &lost) {
					t.Errorf("after the trouble: %v", err)
				}
				if err == nil {
					return
				}
			}
		})
	}
	calm.Wait()
	if d := time.Since(begin); d > 12*oneWay {
		t.Errorf("data after %v, want at most six round trips", d)
	}
	wg.Wait()
	time.Sleep(15 * time.Second)
	a, b := nodes[0].Connections(), nodes[1].Connections()
	if len(a) != 1 || len(b) != 1 || a[0].Dialed == b[0].Dialed || a[0].Draining+b[0].Draining != 0 {
		t.Errorf("connections: %+v, %+v", a, b)
	}
}
