package bridge

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff gives growing pauses between attempts: from first, doubled up to
// most, each shortened at random by up to a half so that many who lost the
// same thing do not come back at the same moment.
type backoff struct {
	first, most time.Duration
	pause       time.Duration
}

func (b *backoff) reset() { b.pause = 0 }

func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, b.first), b.most)
	return b.pause - rand.N(b.pause/2+1)
}

// wait pauses, or less if one of the channels is ready or ctx is done; a nil
// channel never is.
func (b *backoff) wait(ctx context.Context, sooner, orSooner <-chan struct{}) {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sooner:
	case <-orSooner:
	case <-ctx.Done():
	}
}
