package lab

import (
	"testing"
	"time"
)

// pollInterval is how often WaitFor asks. Short next to what it waits for, and
// an answer costs an agent less than a millisecond.
const pollInterval = 25 * time.Millisecond

// WaitFor asks holds until it returns nil and returns how long that took. If it
// still returns an error after the deadline, the test fails with what was
// waited for and that error. A single call of holds may outlast the deadline.
func WaitFor(tb testing.TB, what string, deadline time.Duration, holds func() error) time.Duration {
	tb.Helper()
	start := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := holds()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > deadline {
			tb.Fatalf("wait for %s: not within %v: %v", what, deadline, err)
		}
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatalf("wait for %s: %v", what, tb.Context().Err())
		}
	}
}
