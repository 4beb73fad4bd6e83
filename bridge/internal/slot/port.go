// Package slot is a device's place for its port, which may be lost and put in
// again while sessions write: it orders those who write, makes them wait while
// there is no port, and counts what a lost one may not have sent. It opens and
// closes no port.
package slot

import (
	"context"
	"io"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
)

// Port is an opened local serial port. Read blocks until bytes arrive, and
// fails for good when the device is gone or the port was closed. Write blocks
// until the driver took everything or the write deadline passed; TryWrite
// takes what the driver takes at once. Read, one of the writes, and the other
// methods may run at the same time.
type Port interface {
	io.ReadWriteCloser
	TryWrite(p []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	// Drain waits until the driver has sent what was written.
	Drain(ctx context.Context) error
	// SetLine changes the line settings at once.
	SetLine(s line.Settings) error
	// Line returns the line settings in force; the zero value where the
	// port has none.
	Line() line.Settings
	// PurgeInput drops what arrived and was not read, PurgeOutput what was
	// written and not sent.
	PurgeInput() error
	PurgeOutput() error
}
