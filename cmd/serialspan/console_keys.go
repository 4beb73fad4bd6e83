package main

import (
	"fmt"
	"io"
	"strings"
)

// consoleHelp says which keys a console has.
const consoleHelp = `  Ctrl-A Ctrl-X   quit
  Ctrl-A Ctrl-S   show what is connected and how much was carried
  Ctrl-A Ctrl-\   send a break of 250 ms
  Ctrl-A Ctrl-A   send Ctrl-A
  Ctrl-A Ctrl-H   show these keys; also Ctrl-A ?
Any other key after Ctrl-A is dropped.
`

// The keys, as a terminal in raw mode sends them.
const (
	ctrlA         = 0x01
	ctrlH         = 0x08
	ctrlS         = 0x13
	ctrlX         = 0x18
	ctrlBackslash = 0x1c
)

// action is what the user asked the console itself for.
type action int

const (
	sendOnly action = iota
	quit
	showStatus
	showHelp
	sendBreak
)

// consoleKeys understands the keys of picocom(1): Ctrl-A, then a command.
type consoleKeys struct {
	say     io.Writer     // for people, never the device
	status  func() string // one line
	signal  func(words ...string) error
	pending bool // Ctrl-A was typed
}

// feed returns what to send of the typed bytes, what to do then, and what is
// left after that. send shares memory with p.
func (k *consoleKeys) feed(p []byte) (send []byte, do action, rest []byte) {
	send = p[:0]
	for i, b := range p {
		if !k.pending {
			if b == ctrlA {
				k.pending = true
			} else {
				send = append(send, b)
			}
			continue
		}
		k.pending = false
		switch b {
		case ctrlA:
			send = append(send, b)
		case ctrlX:
			return send, quit, nil
		case ctrlS:
			return send, showStatus, p[i+1:]
		case ctrlBackslash:
			return send, sendBreak, p[i+1:]
		case ctrlH, '?':
			return send, showHelp, p[i+1:]
		}
	}
	return send, sendOnly, nil
}

// consoleBreak is how long a break of the console is, a quarter of a second as
// of tcsendbreak(3).
const consoleBreak = "break=250ms"

// do does what was asked for. The terminal is raw: lines end with CR LF.
func (k *consoleKeys) do(a action) {
	switch a {
	case showStatus:
		fmt.Fprintf(k.say, "\r\n*** %s\r\n", k.status())
	case sendBreak:
		text := "break sent"
		if err := k.signal(consoleBreak); err != nil {
			text = printable(err.Error())
		}
		fmt.Fprintf(k.say, "\r\n*** %s\r\n", text)
	case showHelp:
		fmt.Fprintf(k.say, "\r\n*** %s\r\n", strings.ReplaceAll(strings.TrimRight(consoleHelp, "\n"), "\n", "\r\n*** "))
	}
}
