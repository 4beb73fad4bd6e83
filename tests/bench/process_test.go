package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the processor time of processes, of threads that have ended
// too, in nanoseconds where /proc/PID/stat counts ticks.
func cpuTime(tb testing.TB, pids []int) time.Duration {
	tb.Helper()
	var sum time.Duration
	for _, pid := range pids {
		// The clock of another process, as clock_getcpuclockid(3) makes it.
		const scheduled = 2
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
			tb.Fatalf("read processor time of process %d: %v", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum
}

// resident returns VmRSS of processes in bytes: of all, and of the largest.
func resident(tb testing.TB, pids []int) (all, largest float64) {
	tb.Helper()
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			tb.Fatalf("read memory of process %d: %v", pid, err)
		}
		for line := range strings.Lines(string(text)) {
			var kilobytes float64
			if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); n == 1 {
				all += kilobytes * 1024
				largest = max(largest, kilobytes*1024)
			}
		}
	}
	if all == 0 && len(pids) > 0 {
		tb.Fatalf("read memory of processes %v: no VmRSS", pids)
	}
	return all, largest
}

func TestOwnProcess(t *testing.T) {
	me := []int{os.Getpid()}
	before, start := cpuTime(t, me), time.Now()
	for cpuTime(t, me)-before < 20*time.Millisecond {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%v of processor time after %v of work", cpuTime(t, me)-before, time.Since(start))
		}
	}
	if all, largest := resident(t, append(me, me...)); all <= largest || largest < 1e6 {
		t.Errorf("resident memory is %v, of the same twice %v", largest, all)
	}
}
