package bench

import (
	"context"
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// scope is a testing.TB whose cleanups can run before the benchmark's end, and
// whose context ends when a person interrupts the run: whoever waits for
// something then fails, and cleanups remove processes and namespaces.
type scope struct {
	testing.TB
	ctx      context.Context
	cleanups []func()
}

// newScope returns a scope that ends with tb at the latest.
func newScope(tb testing.TB) *scope {
	s := &scope{TB: tb, ctx: tb.Context()}
	tb.Cleanup(s.close)
	return s
}

// interruptible is newScope for the whole run. The first SIGINT or SIGTERM ends
// its context and what is given to onInterrupt; a second ends the process.
func interruptible(tb testing.TB) *scope {
	ctx, stop := signal.NotifyContext(tb.Context(), os.Interrupt, unix.SIGTERM)
	context.AfterFunc(ctx, stop)
	s := newScope(tb)
	s.ctx = ctx
	tb.Cleanup(stop)
	return s
}

// Cleanup implements testing.TB.
func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Context implements testing.TB.
func (s *scope) Context() context.Context { return s.ctx }

// close runs the cleanups, the last first. What a cleanup adds runs too.
func (s *scope) close() {
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		f := s.cleanups[last]
		s.cleanups = s.cleanups[:last]
		f()
	}
}

func TestScope(t *testing.T) {
	var order string
	s := newScope(t)
	s.Cleanup(func() { order += "a" })
	s.Cleanup(func() { order += "b"; s.Cleanup(func() { order += "c" }) })
	s.close()
	s.close()
	if order != "bca" {
		t.Errorf("cleanups ran in the order %q, want bca", order)
	}
}
