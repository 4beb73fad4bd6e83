package device

import "github.com/serialspan/serialspan/bridge/line"

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
