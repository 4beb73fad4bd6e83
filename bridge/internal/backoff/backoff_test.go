package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/backoff"
)

func TestNext(t *testing.T) {
	b := backoff.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	for range 2 {
		for i, most := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			most *= time.Millisecond
			if have := b.Next(); have < most/2 || have > most {
				t.Errorf("pause %d is %v, want %v to %v", i, have, most/2, most)
			}
		}
		b.Reset()
	}
}

func TestWait(t *testing.T) {
	for _, test := range []struct {
		name                   string
		sooner, orSooner, done bool
	}{
		{name: "nothing comes"},
		{name: "one channel", sooner: true},
		{name: "the other", orSooner: true},
		{name: "ctx is done", done: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ready := map[bool]chan struct{}{true: make(chan struct{})}
				close(ready[true])
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if test.done {
					cancel()
				}
				began := time.Now()
				b := backoff.Backoff{First: time.Minute, Most: time.Hour}
				b.Wait(ctx, ready[test.sooner], ready[test.orSooner])
				waits := !test.sooner && !test.orSooner && !test.done
				if took := time.Since(began); (took >= 30*time.Second) != waits {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
