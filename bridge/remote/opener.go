// Package remote opens devices of any node for programs of this one: as a stream
// of bytes (a console), as a Port with line settings and modem lines, or as a
// Monitor that reads along. An Attacher is what they run in; see its methods for
// how long an open takes, what ends it and its errors. Programs outside the agent
// have package client.
//
// The goroutines of a stream are those of its use.Use. They end with Close, or with
// the Attacher's Run, which joins them.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/use"
)

// Opener opens devices. It is safe for concurrent use.
type Opener struct {
	config *use.Config
	log    *slog.Logger
	within func(start func(ctx context.Context, release func(), workers *sync.WaitGroup) error) error
}

// NewOpener returns an Opener; within calls start with what a stream runs in: a
// context, what releases that at the stream's end, and what joins its goroutines.
// It fails if there is no such thing now.
func NewOpener(config *use.Config, log *slog.Logger, within func(start func(ctx context.Context, release func(), workers *sync.WaitGroup) error) error) *Opener {
	return &Opener{config, log, within}
}

// stream is what open opens.
type stream struct {
	device, kind string
	line         string // settings to begin with; empty: the device's own
	take         use.Take
	readOnly     bool
}

// open opens a stream of some kind; side makes what the session writes to.
func (o *Opener) open(ctx context.Context, s stream, side func(*raw) link.Sink) (*raw, error) {
	r := newRaw()
	err := o.within(func(runCtx context.Context, release func(), workers *sync.WaitGroup) error {
		if s.device == "" {
			release()
			return errors.New("no device is named")
		}
		r.use = use.New(o.config, o.log.With("device", s.device), side(r), use.NewRight(s.take), use.Options{
			Device: s.device, Kind: s.kind, Line: s.line, ReadOnly: s.readOnly, Eager: true,
		})
		r.use.Start(runCtx, workers, func(err error) {
			release()
			r.ended(err)
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { r.use.Cancel(context.Cause(ctx)) })
	_, err = r.use.Session()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		r.use.Cancel(err)
		r.use.Wait()
		return nil, r.reason()
	}
	return r, nil
}

// Raw opens a device as a stream of bytes, for a console. It blocks until
// there is a session, the owner or the registry refused (the error unwraps to
// a session.Code or is a *use.TargetError), the hold time has passed, or ctx is
// done, which later means nothing. The stream survives outages up to the hold
// time; Read then fails with the reason. Close gives what was written a
// moment to be delivered.
func (o *Opener) Raw(ctx context.Context, device string, take use.Take) (io.ReadWriteCloser, error) {
	if take > use.TakeForce {
		return nil, fmt.Errorf("open %q: take %d is not known", device, take)
	}
	r, err := o.open(ctx, stream{device: device, kind: "console", take: take}, func(r *raw) link.Sink { return rawSink{r} })
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", device, err)
	}
	return r, nil
}
