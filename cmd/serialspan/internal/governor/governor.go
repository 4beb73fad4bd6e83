// Package governor decides how many threads the agent's goroutines run on.
//
// A byte on its way through an agent passes a dozen goroutines, one after the
// other. With several processors the Go scheduler wakes a second thread at each
// hand-over, in case there is something to do side by side; there is not, and
// the thread goes back to sleep. Measured with one byte at a time, that is half
// of the CPU time and a third of the delay. With one processor the hand-overs
// are function calls. So the agent has one while it has little to do, and all of
// the machine's while it is busy: several devices at full speed, a large
// transfer, hundreds of members that join. And when work is over, it gives
// back the memory that the work took.
package governor

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Period is how often the load is looked at. A transfer that begins is slower
	// for about as long.
	Period = 250 * time.Millisecond

	// busy is the load, in processors, from which on one is not enough: above it
	// the waiting for the processor would show.
	busy = 0.6
	// calm is the load below which one is enough again, and calmFor how many
	// periods it lasts before we believe it.
	calm    = 0.4
	calmFor = 20
	// rest is the load of a process that does nothing worth mentioning.
	rest = 0.05
)

// Governor is the decision, without the clock and the runtime.
type Governor struct {
	wide   bool
	lulled int // periods of calm
	rested int // periods of next to nothing
}

// Wide takes the load of the last period, CPU time by wall time, and returns
// whether to use all processors from now on.
func (g *Governor) Wide(load float64) bool {
	if g.rested++; load > rest {
		g.rested = 0
	}
	switch {
	case load > busy:
		g.wide, g.lulled = true, 0
	case load >= calm:
		g.lulled = 0
	default:
		g.lulled++
		if g.lulled >= calmFor {
			g.wide = false
		}
	}
	return g.wide
}

// Rested reports, once each time, that work is over: the start, a transfer. It
// is the time to give back the memory that it took.
func (g *Governor) Rested() bool { return g.rested == calmFor }

// Run governs until ctx is done, then gives all processors back. used returns
// the CPU time that the process has taken so far; nil asks the kernel. Where the
// user has set GOMAXPROCS, or where there is only one processor, it only gives
// memory back.
func Run(ctx context.Context, used func() time.Duration) {
	if used == nil {
		used = cpuTime
	}
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 {
		defer runtime.SetDefaultGOMAXPROCS()
		runtime.GOMAXPROCS(1)
		run(ctx, used, set)
	} else {
		run(ctx, used, func(bool) {})
	}
}

func run(ctx context.Context, used func() time.Duration, widen func(wide bool)) {
	var g Governor
	wide, started := false, false
	ticker := time.NewTicker(Period)
	defer ticker.Stop()
	at, before := time.Now(), used()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			cpu := used()
			load := float64(cpu-before) / float64(now.Sub(at)) // monotonic
			at, before = now, cpu
			if want := g.Wide(load); want != wide {
				wide = want
				widen(wide)
			}
			if !g.Rested() {
				continue
			}
			debug.FreeOSMemory()
			if !started {
				started = true
				_ = forgetProgram() // where it fails, there is just more of it in memory
			}
		}
	}
}

func set(wide bool) {
	if wide {
		runtime.SetDefaultGOMAXPROCS() // follows the limits of a container
	} else {
		runtime.GOMAXPROCS(1)
	}
}

// cpuTime returns how long our threads have run, in the program and the kernel.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
