package quicnet_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestSimultaneousDialAfterRestart: the survivor counts rounds on from those of
// the former process, the fresh one begins anew; still no stream is lost.
func TestSimultaneousDialAfterRestart(t *testing.T) {
	for _, skew := range []time.Duration{-2 * oneWay, -oneWay, -time.Millisecond, 0, time.Millisecond, oneWay, 2 * oneWay} {
		for restarted := range 2 {
			t.Run(skew.String()+" node "+string(rune('0'+restarted)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
					ids := who(t, 2)
					survivor := start(t, hub, ids[1-restarted], ids[1-restarted].ID(), nil)
					old := start(t, hub, ids[restarted], ids[restarted].ID(), nil)
					for range 5 {
						c := dial(t, survivor, old)
						roundTrip(t, c, "before")
						_ = c.Close()
						survivor.Renew(old.id)
						time.Sleep(time.Second)
					}
					old.stop()
					time.Sleep(time.Second)
					fresh := start(t, hub, ids[restarted], ids[restarted].ID(), nil)
					survivor.Renew(fresh.id)
					var wg sync.WaitGroup
					for i, pair := range [][2]*node{{survivor, fresh}, {fresh, survivor}} {
						wg.Go(func() {
							time.Sleep(max(0, skew*time.Duration(1-2*i)))
							c := dial(t, pair[0], pair[1])
							for range 20 {
								roundTrip(t, c, "after")
								time.Sleep(time.Second)
							}
							_ = c.Close()
						})
					}
					wg.Wait()
				})
			})
		}
	}
}
