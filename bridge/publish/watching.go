package publish

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// errNoWatch: nothing tells of changes of the hardware.
var errNoWatch = errors.New("nothing tells of changes")

// watchAgain is when a watch that broke is tried again.
const watchAgain = time.Minute

// watching runs Config.Watch, again if it breaks.
type watching struct {
	rescan chan struct{}
	on     atomic.Bool
}

// active reports whether changes are told now.
func (w *watching) active() bool { return w.on.Load() }

func (w *watching) run(ctx context.Context, watch func(context.Context, func()) error, log *slog.Logger) {
	for ctx.Err() == nil {
		err := watch(ctx, func() {
			w.on.Store(true)
			signal(w.rescan)
		})
		w.on.Store(false)
		if ctx.Err() != nil || errors.Is(err, errNoWatch) {
			return
		}
		log.Warn("hot-plug events are not heard, looking every second", "err", err)
		timer := time.NewTimer(watchAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
