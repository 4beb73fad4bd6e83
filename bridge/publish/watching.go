package publish

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errNoWatch: nothing tells of changes.
var errNoWatch = errors.New("nothing tells of changes")

// watchAgain is when a watch that broke is tried again.
const watchAgain = time.Minute

// watching runs a watch, again if it breaks.
type watching struct {
	rescan chan struct{}
	broken string // what to log then
	log    *slog.Logger
	on     atomic.Bool
}

// active reports whether changes are told now.
func (w *watching) active() bool { return w.on.Load() }

func (w *watching) run(ctx context.Context, watch func(context.Context, func()) error) {
	for ctx.Err() == nil {
		err := watch(ctx, func() {
			w.on.Store(true)
			signal(w.rescan)
		})
		w.on.Store(false)
		if ctx.Err() != nil || errors.Is(err, errNoWatch) {
			return
		}
		signal(w.rescan) // nobody told what happened meanwhile
		w.log.Warn(w.broken, "err", err)
		timer := time.NewTimer(watchAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// pathWatching watches the paths that rules name, anew when the rules change.
type pathWatching struct {
	watch   func(ctx context.Context, paths []string, changed func()) error
	rescan  chan struct{}
	log     *slog.Logger
	paths   []string
	current *watching
	stop    context.CancelFunc
}

// active reports whether there is nothing to look at without being told.
func (w *pathWatching) active() bool { return len(w.paths) == 0 || w.current.active() }

// follow watches these paths and no others, until ctx is done.
func (w *pathWatching) follow(ctx context.Context, running *sync.WaitGroup, paths []string) {
	if slices.Equal(paths, w.paths) {
		return
	}
	if w.stop != nil {
		w.stop()
	}
	if w.paths = paths; len(paths) == 0 {
		return
	}
	ctx, w.stop = context.WithCancel(ctx)
	current := &watching{rescan: w.rescan, broken: "paths of rules are not watched, looking every second", log: w.log}
	w.current = current
	running.Go(func() {
		current.run(ctx, func(ctx context.Context, changed func()) error { return w.watch(ctx, paths, changed) })
	})
}
