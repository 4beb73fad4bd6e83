package port

import (
	"errors"
	"fmt"
	"net"
)

// Errors that a caller may test for.
var (
	// ErrGone: the device is not there any more (unplugged, or the other end of
	// a PTY closed). Close the port and open it anew when it is back.
	ErrGone = errors.New("the device is gone")
	// ErrBusy: another program has the tty open for itself.
	ErrBusy = errors.New("another program uses it")
	// ErrNotTTY: the path is no terminal device.
	ErrNotTTY = errors.New("not a serial port")
	// ErrClosed: Close was called. It unwraps to net.ErrClosed.
	ErrClosed = fmt.Errorf("port closed: %w", net.ErrClosed)
	// ErrNoModemLines: the tty has no modem lines, as a PTY.
	ErrNoModemLines = errors.New("it has no modem lines")
)
