package main

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
)

// consoleHelp says which keys a console has.
const consoleHelp = `  Ctrl-A Ctrl-X   quit
  Ctrl-A Ctrl-V   show device, line settings, modem lines, and what was carried
  Ctrl-A Ctrl-B   set the baud rate, or all line settings: 9600, 9600e71/rtscts
  Ctrl-A Ctrl-U   next higher baud rate
  Ctrl-A Ctrl-D   next lower baud rate
  Ctrl-A Ctrl-Y   next parity: none, odd, even, mark, space
  Ctrl-A Ctrl-I   next number of data bits: 8, 7, 6, 5
  Ctrl-A Ctrl-J   the other number of stop bits
  Ctrl-A Ctrl-F   next flow control: none, rtscts, xonxoff
  Ctrl-A Ctrl-T   toggle DTR
  Ctrl-A Ctrl-G   toggle RTS
  Ctrl-A Ctrl-\   send a break of 250 ms
  Ctrl-A Ctrl-S   send a file as it is; Ctrl-C ends that
  Ctrl-A Ctrl-A   send Ctrl-A
  Ctrl-A Ctrl-H   show these keys; also Ctrl-A ?
Any other key after Ctrl-A is dropped.
`

// The keys, as a terminal in raw mode sends them.
const (
	ctrlA         = 0x01
	ctrlB         = 0x02
	ctrlC         = 0x03
	ctrlD         = 0x04
	ctrlF         = 0x06
	ctrlG         = 0x07
	ctrlH         = 0x08
	ctrlI         = 0x09
	ctrlJ         = 0x0a
	enter         = 0x0d
	ctrlS         = 0x13
	ctrlT         = 0x14
	ctrlU         = 0x15
	ctrlV         = 0x16
	ctrlX         = 0x18
	ctrlY         = 0x19
	escape        = 0x1b
	ctrlBackslash = 0x1c
	backspace     = 0x7f
)

// action is what the user asked the console itself for: sendOnly, quit, answer,
// abort, or the key after Ctrl-A.
type action int

const (
	sendOnly action = 0
	quit     action = ctrlX
	answer   action = 0x100 // a question was answered
	abort    action = 0x101 // of a file
)

// consoleCommands are the keys after Ctrl-A, but for Ctrl-A itself.
const consoleCommands = "\x02\x04\x06\x07\x08\x09\x0a\x13\x14\x15\x16\x18\x19\x1c?"

// consolePort is what the keys need of a port.
type consolePort interface {
	Line() line.Settings
	SetLine(s line.Settings) error
	Modem() (known, on line.ModemLines)
	SetDTR(on bool) error
	SetRTS(on bool) error
	Break(length time.Duration) error
}

// consoleKeys understands the keys of picocom(1): Ctrl-A, then a command.
type consoleKeys struct {
	say     io.Writer     // for people, never the device
	status  func() string // one line
	port    consolePort
	file    *consoleFile                  // sends files
	pending bool                          // Ctrl-A was typed
	prompt  *prompt                       // nil: what is typed is for the device
	line    atomic.Pointer[line.Settings] // last asked for
}

// asked reports whether an event is what was asked for here. A nil consoleKeys
// asks for nothing.
func (k *consoleKeys) asked(e client.PortEvent) bool {
	if k == nil || e.Kind != client.PortLine {
		return false
	}
	asked := k.line.Load()
	return asked != nil && *asked == e.Line
}

// prompt is a question to the user.
type prompt struct {
	typed []byte
	then  func(answer string) // not called when the user gave up
}

// feed returns what to send of the typed bytes, what to do then, and what is
// left after that. send shares memory with p.
func (k *consoleKeys) feed(p []byte) (send []byte, do action, rest []byte) {
	send = p[:0]
	for i, b := range p {
		switch {
		case k.pending:
			k.pending = false
			if b == ctrlA && k.prompt == nil && !k.file.busy() {
				send = append(send, b)
			} else if strings.IndexByte(consoleCommands, b) >= 0 && (b == ctrlX || k.prompt == nil) {
				return send, action(b), p[i+1:]
			}
		case b == ctrlA:
			k.pending = true
		case k.prompt != nil:
			if k.edit(b) {
				return send, answer, p[i+1:]
			}
		case k.file.busy():
			if b == ctrlC {
				return send, abort, p[i+1:]
			}
		default:
			send = append(send, b)
		}
	}
	return send, sendOnly, nil
}

// ask begins a question. The terminal is raw: lines end with CR LF.
func (k *consoleKeys) ask(question string, then func(string)) {
	k.prompt = &prompt{then: then}
	fmt.Fprintf(k.say, "\r\n*** %s: ", question)
}

// edit takes a key of an answer and shows it; true: it is complete.
func (k *consoleKeys) edit(b byte) bool {
	p := k.prompt
	switch {
	case b == enter || b == ctrlJ:
		fmt.Fprint(k.say, "\r\n")
		return true
	case b == ctrlC || b == escape:
		k.prompt = nil
		fmt.Fprint(k.say, "\r\n*** nothing was done\r\n")
	case b == ctrlH || b == backspace:
		if _, size := utf8.DecodeLastRune(p.typed); size > 0 {
			p.typed = p.typed[:len(p.typed)-size]
			fmt.Fprint(k.say, "\b \b")
		}
	case b >= ' ' && len(p.typed) < 4096:
		p.typed = append(p.typed, b)
		k.say.Write([]byte{b})
	}
	return false
}

// consoleBreak is how long a break of the console is, a quarter of a second as
// of tcsendbreak(3).
const consoleBreak = 250 * time.Millisecond

// do does what was asked for, and says what came of it.
func (k *consoleKeys) do(a action) {
	switch a {
	case sendOnly:
	case answer:
		p := k.prompt
		k.prompt = nil
		if text := strings.TrimSpace(string(p.typed)); text != "" {
			p.then(text)
		} else {
			k.tell("nothing was done")
		}
	case abort:
		k.file.abort()
	case ctrlV:
		k.tell(k.status())
	case ctrlH, '?':
		fmt.Fprintf(k.say, "\r\n*** %s\r\n", strings.ReplaceAll(strings.TrimRight(consoleHelp, "\n"), "\n", "\r\n*** "))
	default:
		if k.file.busy() {
			k.tell("a file is being sent; Ctrl-C ends that")
			return
		}
		k.command(a)
	}
}

// command does what changes the device or sends to it.
func (k *consoleKeys) command(a action) {
	switch a {
	case ctrlB:
		k.ask("baud rate or line settings", func(text string) { k.setLine(lineOf(text, k.port.Line())) })
	case ctrlU, ctrlD, ctrlY, ctrlI, ctrlJ, ctrlF:
		k.setLine(nextLine(k.port.Line(), a), nil)
	case ctrlT:
		k.toggle(line.DTR, k.port.SetDTR)
	case ctrlG:
		k.toggle(line.RTS, k.port.SetRTS)
	case ctrlBackslash:
		k.outcome("break sent", k.port.Break(consoleBreak))
	case ctrlS:
		k.ask("file to send", func(path string) {
			if err := k.file.start(path); err != nil {
				k.outcome("", err)
			}
		})
	}
}

// tell says a line.
func (k *consoleKeys) tell(text string) { fmt.Fprintf(k.say, "\r\n*** %s\r\n", printable(text)) }

// outcome says what was done, or why not.
func (k *consoleKeys) outcome(done string, err error) {
	if err != nil {
		done = err.Error()
	}
	k.tell(done)
}

func (k *consoleKeys) setLine(s line.Settings, err error) {
	if err == nil {
		k.line.Store(&s)
		err = k.port.SetLine(s)
	}
	k.outcome(fmt.Sprintf("line settings are %v", s), err)
}

// toggle turns an output to what it is not, as far as is known.
func (k *consoleKeys) toggle(output line.ModemLines, set func(bool) error) {
	_, now := k.port.Modem()
	on := !now.Has(output)
	k.outcome(fmt.Sprintf("%s is %s", strings.ToUpper(output.String()), onOff(on)), set(on))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
