package uevent

import (
	"context"
	"os"
)

// Listen is Run on a socket of the test.
func (w *Watcher) Listen(ctx context.Context, socket *os.File) error { return w.listen(ctx, socket) }
