package bridge

import (
	"context"
	"io"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/registry"
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

// Candidate is a tty that could be published, as discovery sees it without
// opening it.
type Candidate struct {
	Path     string // "/dev/ttyUSB0"
	Hardware registry.Hardware
	Product  string // for people and profiles, may be empty
	// Manufacturer and Driver ("cp210x") are for profiles; may be empty.
	Manufacturer, Driver string
	// Skip says why the tty must not be published by publish: all, for
	// example "system console"; empty: nothing speaks against it.
	Skip string
}

// PortSpec is how a port is to be opened.
type PortSpec struct {
	Path string
	// Line are the line settings; the zero value means 115200n81.
	Line line.Settings
	// DTR and RTS are set once after the open; the zero value leaves them as
	// Linux does.
	DTR, RTS line.Drive
	RS485    line.RS485
}
