package attach

import (
	"context"
	"io"
	"sync"

	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/use"
)

// within gives start what a stream runs in: a context that ends with Run, and the
// workers that Run joins.
func (a *Attacher) within(start func(ctx context.Context, release func(), workers *sync.WaitGroup) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.child == nil {
		return ErrNotRunning
	}
	ctx, release := a.child()
	return start(ctx, release, a.workers)
}

// OpenRaw opens a device as a stream of bytes, for a console. It blocks until
// there is a session, the owner or the registry refused (the error unwraps to
// a session.Code or is a *use.TargetError), the hold time has passed, or ctx is
// done, which later means nothing. The stream survives outages up to the hold
// time; Read then fails with the reason. Close gives what was written a
// moment to be delivered.
func (a *Attacher) OpenRaw(ctx context.Context, device string, take use.Take) (io.ReadWriteCloser, error) {
	return a.opener.Raw(ctx, device, take)
}

// OpenMonitor opens a device to read along; see OpenRaw for how long that
// takes, what ends it and its errors. It needs the right to read.
func (a *Attacher) OpenMonitor(ctx context.Context, device string) (*remote.Monitor, error) {
	return a.opener.Monitor(ctx, device)
}

// OpenPort opens a device as a port; see OpenRaw for how long that takes, what
// ends it and its errors. An error wraps remote.ErrDevice if the device has other
// line settings than were asked for.
func (a *Attacher) OpenPort(ctx context.Context, device string, o remote.Options) (*remote.Port, error) {
	return a.opener.Port(ctx, device, o)
}
