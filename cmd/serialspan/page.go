package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal"
)

// page is what a command shows to people: lines for the output, remarks for
// beside it.
type page struct {
	out, notes    bytes.Buffer
	columns, rows int  // of the terminal that it goes to; 0: no terminal
	colour        bool // escape sequences are understood and wanted
}

// newPage returns an empty page for w. There is colour on a terminal, unless
// NO_COLOR (no-color.org) is set or the terminal is dumb.
func newPage(w io.Writer) *page {
	p := &page{}
	p.columns, p.rows = terminal.Size(w)
	p.colour = terminal.Is(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return p
}

// note adds a remark.
func (p *page) note(format string, args ...any) {
	fmt.Fprintln(&p.notes, "serialspan: "+printable(fmt.Sprintf(format, args...)))
}

// line adds a line of a name and a value.
func (p *page) line(name, format string, args ...any) {
	fmt.Fprintf(&p.out, "%-13s %s\n", name, printable(fmt.Sprintf(format, args...)))
}

// The colours of a state.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	plain  = "\x1b[0m"
)

// paint gives a cell the colour of the state that it says, if there is one.
func (p *page) paint(state, cell string) string {
	if !p.colour {
		return cell
	}
	switch state {
	case string(client.NodeAlive), string(client.DeviceAvailable), string(client.AttachmentConnected), "open":
		return green + cell + plain
	case string(client.DeviceInUse), string(client.NodeSuspect), string(client.AttachmentHolding), string(client.AttachmentWaiting):
		return yellow + cell + plain
	case string(client.NodeDead), string(client.DeviceFault), string(client.DeviceAway), string(client.AttachmentFailed), string(client.AttachmentKicked):
		return red + cell + plain
	}
	return cell
}
