package main

import (
	"cmp"
	"fmt"
	"io"
	"sync"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
)

// note takes an event of the port to be said beside the stream. It does not
// block: what a terminal that takes nothing cannot show is not said, and still
// counted by the status.
func (c *console) note(e client.PortEvent) {
	select {
	case c.notes <- e:
	default:
	}
}

// tellNotes says what note was given, until over is closed.
func (c *console) tellNotes(over <-chan struct{}) {
	var before consoleSeen
	begin, end := "serialspan: ", "\n"
	if c.keys != nil {
		begin, end = "\r\n*** ", "\r\n" // the terminal is raw
	}
	for {
		select {
		case e := <-c.notes:
			text := before.text(e)
			if c.keys == nil && e.Kind != client.PortGap || c.keys.asked(e) {
				text = ""
			}
			if text != "" {
				fmt.Fprint(c.say, begin+printable(text)+end)
			}
		case <-over:
			return
		}
	}
}

// consoleSeen is what was told so far: the first of a kind is no news.
type consoleSeen struct {
	line      line.Settings
	known, on line.ModemLines
}

// text says what an event means, empty for no news. Outputs are not said: it is
// this console that moves them, mostly.
func (s *consoleSeen) text(e client.PortEvent) string {
	switch e.Kind {
	case client.PortGap:
		return gapText(e)
	case client.PortLine:
		was := s.line
		if s.line = e.Line; !was.IsZero() {
			return fmt.Sprintf("line settings changed from %v to %v", was, e.Line)
		}
	case client.PortModem:
		was := *s
		s.known, s.on = e.Known, e.On
		if was.known == e.Known && (was.on^e.On)&^line.ModemOutputs != 0 {
			return "modem lines: " + modemText(e.Known, e.On)
		}
	case client.PortNote:
		return cmp.Or(e.Text, "all is as usual again")
	}
	return ""
}

func gapText(e client.PortEvent) string {
	what := "from"
	if e.ToDevice {
		what = "for"
	}
	count := fmt.Sprintf("up to %d bytes", e.Lost)
	switch {
	case e.Unknown && e.Lost == 0:
		count = "an unknown number of bytes"
	case e.Unknown:
		count = fmt.Sprintf("%d bytes or more", e.Lost)
	}
	return fmt.Sprintf("gap: %s %s the device were lost, after byte %d that it sent", count, what, e.Offset)
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
