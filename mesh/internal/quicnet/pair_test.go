package quicnet_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
	"github.com/serialspan/serialspan/mesh/internal/quicnet"
)

func TestSimultaneousDial(t *testing.T) {
	for _, skew := range []time.Duration{-2 * oneWay, -oneWay, -time.Millisecond, 0, time.Millisecond, oneWay, 2 * oneWay} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := two(t)
				var wg sync.WaitGroup
				streams := make([]net.Conn, 2)
				dialAt := func(i int, from, to *node, at time.Duration) {
					time.Sleep(at)
					streams[i] = dial(t, from, to)
					roundTrip(t, streams[i], "hello")
				}
				wg.Go(func() { dialAt(0, a, b, max(0, skew)) })
				wg.Go(func() { dialAt(1, b, a, max(0, -skew)) })
				wg.Wait()
				time.Sleep(time.Minute / 4) // less than the idle timeout
				roundTrip(t, streams[0], "still")
				roundTrip(t, streams[1], "here")
				ca, cb := a.Connections(), b.Connections()
				if len(ca) != 1 || len(cb) != 1 || ca[0].Dialed == cb[0].Dialed {
					t.Fatalf("connections: %+v, %+v", ca, cb)
				}
				if both := skew > -2*oneWay && skew < 2*oneWay; both && skew.Abs() < oneWay {
					if !ca[0].Dialed {
						t.Error("the connection of the larger NodeID is in use")
					}
				}
				for _, s := range streams {
					_ = s.Close()
				}
				time.Sleep(10 * time.Second)
				ca, cb = a.Connections(), b.Connections()
				if len(ca) != 1 || len(cb) != 1 || ca[0].Draining != 0 || cb[0].Draining != 0 {
					t.Errorf("connections after draining: %+v, %+v", ca, cb)
				}
			})
		})
	}
}

func TestPeerRestart(t *testing.T) {
	rows := []struct {
		name     string
		crash    bool // without telling
		redialer func(a, b *node) (from, to *node)
	}{
		{"stopped, survivor dials", false, func(a, b *node) (*node, *node) { return a, b }},
		{"stopped, restarted dials", false, func(a, b *node) (*node, *node) { return b, a }},
		{"crashed, survivor dials", true, func(a, b *node) (*node, *node) { return a, b }},
		{"crashed, restarted dials", true, func(a, b *node) (*node, *node) { return b, a }},
	}
	for _, row := range rows {
		for _, restarted := range []int{0, 1} {
			t.Run(row.name+", node "+string(rune('0'+restarted)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: oneWay}})
					ids := who(t, 2)
					survivor := start(t, hub, ids[1-restarted], ids[1-restarted].ID(), nil)
					old := start(t, hub, ids[restarted], ids[restarted].ID(), nil)
					c := dial(t, survivor, old)
					roundTrip(t, c, "before")
					ended := endOf(c)
					time.Sleep(time.Second)
					one, other := []net.Addr{memnet.AddrOf(survivor.id)}, []net.Addr{memnet.AddrOf(old.id)}
					if row.crash {
						hub.Cut(one, other)
					}
					old.stop()
					time.Sleep(time.Second)
					hub.Heal(one, other)
					fresh := start(t, hub, ids[restarted], ids[restarted].ID(), nil)

					begin := time.Now()
					from, to := row.redialer(survivor, fresh)
					for {
						s := dial(t, from, to)
						err := tryRoundTrip(s, "after")
						_ = s.Close()
						if err == nil {
							break
						}
						var lost *quicnet.LostError
						if !errors.As(err, &lost) {
							t.Fatalf("stream to a restarted peer: %v", err)
						}
					}
					if d := time.Since(begin); d > 8*oneWay {
						t.Errorf("data after %v, want at most four round trips", d)
					}
					if d := (<-ended).Sub(begin); d > 8*oneWay {
						t.Errorf("the old stream ended after %v, want at most four round trips", d)
					}
					_ = c.Close()
				})
			})
		}
	}
}

// endOf reads until an error and tells when it came.
func endOf(c net.Conn) <-chan time.Time {
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, c)
		ended <- time.Now()
	}()
	return ended
}

// TestRenewIsSeenThoughItsCloseIsLost: the new connection itself tells that the
// old one was given up, whoever has dialed that.
func TestRenewIsSeenThoughItsCloseIsLost(t *testing.T) {
	for _, row := range []string{"dialed by the renewer", "dialed by the other"} {
		t.Run(row, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub, a, b := two(t)
				if row == "dialed by the renewer" {
					roundTrip(t, dial(t, a, b), "first")
				}
				c, err := b.Dial(t.Context(), a.id, "echo")
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, c, "before")
				ended := endOf(c)
				one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
				time.Sleep(time.Second)
				hub.Cut(one, other)
				a.Renew(b.id)
				time.Sleep(5 * time.Second)
				hub.Heal(one, other)
				begin := time.Now()
				s := dial(t, a, b)
				roundTrip(t, s, "after")
				_ = s.Close()
				if d := (<-ended).Sub(begin); d > 4*oneWay {
					t.Errorf("the other side's stream ended after %v, want at most two round trips", d)
				}
				_ = c.Close()
			})
		})
	}
}

func TestRenewAfterOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 8 * time.Second, 25 * time.Second} {
		for _, row := range []struct {
			name string
			both bool
		}{{"one side renews", false}, {"both sides renew", true}} {
			t.Run(outage.String()+" "+row.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub, a, b := two(t)
					c := dial(t, a, b)
					roundTrip(t, c, "before")
					one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
					hub.Cut(one, other)
					go func() { // fills the window, as a session does
						buf := make([]byte, 4096)
						for {
							if _, err := c.Write(buf); err != nil {
								return
							}
						}
					}()
					time.Sleep(outage)
					hub.Heal(one, other)
					begin := time.Now()
					a.Renew(b.id)
					if row.both {
						b.RenewOlder(a.id, outage)
					}
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("stream of the old connection: %v, want net.ErrClosed", err)
					}
					var wg sync.WaitGroup
					for _, pair := range [][2]*node{{a, b}, {b, a}} {
						wg.Go(func() {
							for {
								s := dial(t, pair[0], pair[1])
								err := tryRoundTrip(s, "after")
								_ = s.Close()
								if err == nil {
									break
								}
							}
							if d := time.Since(begin); d > 8*oneWay {
								t.Errorf("data after %v, want at most four round trips", d)
							}
						})
					}
					wg.Wait()
					_ = c.Close()
				})
			})
		}
	}
}

// TestRenewRestartsWaitingDial: a dial made during an outage must not wait for
// the back-off of its handshake, nor one made right before its end, as the other
// side's renewal causes it, for the first repetition.
func TestRenewRestartsWaitingDial(t *testing.T) {
	const outage = 4 * time.Second
	for _, early := range []time.Duration{outage, oneWay} {
		synctest.Test(t, func(t *testing.T) {
			hub, a, b := two(t)
			one, other := []net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)}
			hub.Cut(one, other)
			done := make(chan time.Time, 1)
			time.Sleep(outage - early)
			go func() {
				c := dial(t, a, b)
				roundTrip(t, c, "hello")
				done <- time.Now()
				_ = c.Close()
			}()
			time.Sleep(early)
			hub.Heal(one, other)
			begin := time.Now()
			a.RenewOlder(b.id, outage)
			if d := (<-done).Sub(begin); d > 4*oneWay {
				t.Errorf("dialed %v before the end of the outage: data after %v, want two round trips", early, d)
			}
		})
	}
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, a, b := two(t)
		c := dial(t, a, b)
		roundTrip(t, c, "hello")
		a.Forget(b.id)
		var lost *quicnet.LostError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &lost) {
			t.Errorf("stream to a forgotten peer: %v, want a LostError", err)
		}
		_ = c.Close()
		again := dial(t, a, b) // it may come back
		roundTrip(t, again, "hello")
		_ = again.Close()

		a.Forget(b.id)
		hub.Cut([]net.Addr{memnet.AddrOf(a.id)}, []net.Addr{memnet.AddrOf(b.id)})
		go func() {
			time.Sleep(time.Second)
			a.Forget(b.id)
		}()
		if _, err := a.Dial(t.Context(), b.id, "echo"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiting dial of a forgotten peer: %v, want net.ErrClosed", err)
		}
	})
}
