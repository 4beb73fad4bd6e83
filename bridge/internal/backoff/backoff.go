// Package backoff makes the pauses between attempts at something that failed.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives growing pauses between attempts: from First, doubled up to
// Most, each shortened at random by up to a half so that many who lost the
// same thing do not come back at the same moment. It is for one goroutine.
type Backoff struct {
	First, Most time.Duration
	pause       time.Duration
}

// Reset makes the next pause the first.
func (b *Backoff) Reset() { b.pause = 0 }

// Next returns the next pause, for who waits in its own way.
func (b *Backoff) Next() time.Duration {
	b.pause = min(max(2*b.pause, b.First), b.Most)
	return b.pause - rand.N(b.pause/2+1)
}

// Wait pauses, or less if one of the channels is ready or ctx is done; a nil
// channel never is.
func (b *Backoff) Wait(ctx context.Context, sooner, orSooner <-chan struct{}) {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sooner:
	case <-orSooner:
	case <-ctx.Done():
	}
}
