package governor_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/governor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWide(t *testing.T) {
	type step struct {
		load    float64
		periods int
		wide    bool // after them
	}
	for _, row := range []struct {
		name  string
		steps []step
	}{
		{"one byte at a time", []step{{0.25, 100, false}}},
		{"a transfer begins", []step{{0.01, 10, false}, {0.9, 1, true}}},
		{"a pause in a transfer", []step{{1.4, 4, true}, {0.1, 19, true}, {1.2, 1, true}, {0.1, 19, true}}},
		{"the transfer has ended", []step{{1.4, 4, true}, {0.1, 20, false}}},
		{"half a load keeps what is there", []step{{0.5, 100, false}, {0.7, 1, true}, {0.5, 100, true}, {0.1, 19, true}, {0.5, 1, true}, {0.1, 19, true}, {0.1, 1, false}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var g governor.Governor
			for i, s := range row.steps {
				got := false
				for range s.periods {
					got = g.Wide(s.load)
				}
				if got != s.wide {
					t.Fatalf("step %d: wide is %v after %d periods of load %v", i, got, s.periods, s.load)
				}
			}
		})
	}
}

// Memory is given back once after each work, however little of a processor it
// took.
func TestRested(t *testing.T) {
	var g governor.Governor
	times := 0
	for i := range 400 {
		load := 0.01
		if i == 100 || i > 200 && i < 250 {
			load = 0.2
		}
		g.Wide(load)
		if g.Rested() {
			times++
		}
	}
	if times != 3 {
		t.Errorf("rested %d times; want 3: after the start and after two pieces of work", times)
	}
}

// The real runtime: a busy program gets its processors, a calm one gives them
// back, and at the end all is as it was.
func TestRun(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	all := runtime.GOMAXPROCS(0)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var busyTill atomic.Int64 // CPU time grows with the clock until then, ns
		used := func() time.Duration { return min(time.Since(begin), time.Duration(busyTill.Load())) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			governor.Run(ctx, used)
		}()
		want := func(when string, n int) {
			t.Helper()
			synctest.Wait()
			if got := runtime.GOMAXPROCS(0); got != n {
				t.Errorf("%s: GOMAXPROCS is %d; want %d", when, got, n)
			}
		}
		want("at the start", 1)
		busyTill.Store(int64(10 * time.Second))
		time.Sleep(governor.Period)
		want("after a busy period", all)
		time.Sleep(20 * time.Second)
		want("after ten calm seconds", 1)
		cancel()
		<-done
		want("at the end", all)
	})
}

func TestRunLeavesTheUsersChoice(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	runtime.GOMAXPROCS(2)
	defer runtime.SetDefaultGOMAXPROCS()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			governor.Run(ctx, func() time.Duration { return 0 })
		}()
		for _, when := range []string{"at the start", "at rest"} {
			if got := runtime.GOMAXPROCS(0); got != 2 {
				t.Errorf("%s: GOMAXPROCS is %d; want 2 as before", when, got)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
		}
		<-done
	})
}
