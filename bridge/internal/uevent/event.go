package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// ErrMessage is wrapped by the errors of Parse.
var ErrMessage = errors.New("not a uevent of the kernel")

// Event is what the kernel says of one device. Keys that a message does not
// have are empty.
type Event struct {
	Action    string // "add", "remove", "bind", "unbind", "change", ...
	Path      string // below /sys, "/devices/.../tty/ttyUSB0"
	Subsystem string // "tty", "usb", ...
	Name      string // of the node below /dev, "ttyUSB0"
	Sequence  uint64 // counts the kernel's events
}

// Parse reads a message of the kernel. The event does not alias it. Errors wrap
// ErrMessage.
func Parse(message []byte) (Event, error) {
	header, rest, ok := bytes.Cut(message, []byte{0})
	action, path, at := bytes.Cut(header, []byte("@"))
	if !ok || !at || len(action) == 0 || len(path) == 0 || path[0] != '/' {
		return Event{}, fmt.Errorf("parse %d bytes: %w: they begin %.20q", len(message), ErrMessage, header)
	}
	e := Event{Action: string(action), Path: string(path)}
	for len(rest) > 0 {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte{0})
		key, value, _ := bytes.Cut(field, []byte("="))
		switch string(key) {
		case "ACTION":
			if string(value) != e.Action {
				return Event{}, fmt.Errorf("parse event %.20q: %w: the fields say %.20q", action, ErrMessage, value)
			}
		case "SUBSYSTEM":
			e.Subsystem = string(value)
		case "DEVNAME":
			e.Name = string(value)
		case "SEQNUM":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				return Event{}, fmt.Errorf("parse event %.20q: %w: number %.24q", action, ErrMessage, value)
			}
			e.Sequence = n
		}
	}
	return e, nil
}

// IsTTY reports whether a serial port may have come, gone or changed.
func (e Event) IsTTY() bool { return e.Subsystem == "tty" }
