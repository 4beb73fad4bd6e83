package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal"
)

func (a *app) consoleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "console NAME[@NODE]",
		Short: "Open a device in this terminal; Ctrl-A Ctrl-X quits",
		Long: "console connects this terminal to a device. These keys are its own, as those of picocom:\n\n" + consoleHelp +
			"\nWith input from a pipe every byte is sent, and after its end the console stays open until\n" +
			"nothing has been received for the --linger time.",
		Args: oneArg("NAME, NAME@NODE or LABEL=VALUE,..."),
	}
	take := c.Flags().Bool("take", false, "take the device from whoever uses it now")
	echo := c.Flags().Bool("echo", false, "show what you type, for devices that do not echo")
	linger := c.Flags().Duration("linger", time.Second, "how long to wait for more after the end of a pipe")
	c.RunE = func(c *cobra.Command, args []string) error {
		agent := a.client()
		console := console{in: a.in, out: a.out, linger: *linger, opened: time.Now(), restore: func() {}, notes: make(chan client.PortEvent, 64)}
		console.say = &lockedWriter{to: a.err}
		port, err := agent.OpenPort(c.Context(), args[0], client.PortOptions{Take: takeOf(*take), Kind: client.KindConsole, Event: console.note})
		if err != nil {
			return err
		}
		defer port.Close()
		console.device = port
		ctx := c.Context()
		if f, ok := a.in.(*os.File); ok && terminal.Is(f) {
			// Neither these signals nor a panic leave the terminal raw behind.
			var stop func()
			ctx, stop = signal.NotifyContext(ctx, syscall.SIGQUIT, syscall.SIGPIPE)
			defer stop()
			signal.Ignore(syscall.SIGTSTP)
			defer signal.Reset(syscall.SIGTSTP)
			restore, err := terminal.MakeRaw(f)
			if err != nil {
				return err
			}
			defer restore()
			console.restore = restore
			console.keys = &consoleKeys{
				say:    console.say,
				status: func() string { return a.consoleStatus(ctx, agent, port, &console) },
				port:   port,
				file:   &consoleFile{port: port, say: console.say, sent: console.count, mend: console.mend},
			}
			fmt.Fprintf(console.say, "connected to %s, %s; Ctrl-A Ctrl-X quits, Ctrl-A Ctrl-H helps\r\n", printable(args[0]), dash(port.Line().String()))
			defer fmt.Fprint(console.say, "\r\n")
		}
		if *echo {
			console.echo = a.out
		}
		return console.run(ctx)
	}
	return a.complete(c, deviceNames)
}

// consoleStatus is the line that Ctrl-A Ctrl-V shows.
func (a *app) consoleStatus(ctx context.Context, agent *client.Client, port *client.Port, c *console) string {
	name := port.Device()
	text := name
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	if found, err := agent.Resolve(ctx, name); err != nil {
		text += ": " + err.Error()
	} else {
		d := found.Device
		text = fmt.Sprintf("%s on %s, %s", d.Name, d.Node, d.State)
		if d.User != "" {
			text += " by " + d.User
		}
	}
	known, on := port.Modem()
	text += fmt.Sprintf("; %s, %s; open for %s, %s sent, %s received", dash(port.Line().String()), modemText(known, on),
		since(time.Since(c.opened)), size(c.sent.Load()), size(c.received.Load()))
	if lost := port.Losses(); lost.Gaps > 0 {
		text += fmt.Sprintf("; %d gaps, %s lost", lost.Gaps, size(lost.FromDevice+lost.ToDevice))
		if lost.Unknown {
			text += " or more"
		}
	}
	if note := port.Note(); note != "" {
		text += "; " + note
	}
	return printable(text)
}

// console copies between a user and a device until either ends.
type console struct {
	device  io.ReadWriteCloser
	in      io.Reader
	out     io.Writer
	echo    io.Writer     // nil: none
	keys    *consoleKeys  // Ctrl-A commands; nil: every byte is sent
	linger  time.Duration // after the end of in
	restore func()        // the terminal, before a panic ends the process
	say     io.Writer     // for people, beside out
	notes   chan client.PortEvent

	opened         time.Time
	sent, received atomic.Uint64 // bytes
}

// joinTimeout bounds how long the end waits for output that nobody takes.
const joinTimeout = time.Second

// run returns nil if the user quit, in ended, or ctx did. Two goroutines copy,
// one says what happens beside the bytes, one sends a file while there is one;
// the one that reads the device has ended on return, unless its output stands
// still; the one that reads in stays until in has something more or ends, since
// a terminal's read cannot be called back: the process is about to exit.
func (c *console) run(ctx context.Context) error {
	typed := make(chan error, 1) // nil: end of input or quit
	go func() {
		defer c.mend()
		typed <- c.send()
	}()
	received := make(chan error, 1)
	activity := make(chan struct{}, 1)
	go func() {
		defer c.mend()
		received <- c.receive(activity)
	}()
	over, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer c.mend()
		defer close(told)
		c.tellNotes(over)
	}()
	err := c.wait(ctx, typed, received, activity)
	c.device.Close()
	close(over)
	if c.keys != nil {
		c.keys.file.join(joinTimeout)
	}
	select {
	case <-told:
	case <-time.After(joinTimeout): // a terminal that takes nothing
	}
	return err
}

// mend restores the terminal before a panic is shown on it.
func (c *console) mend() {
	if failure := recover(); failure != nil {
		c.restore()
		panic(failure)
	}
}

// end closes the device and waits for its reader.
func (c *console) end(received <-chan error) {
	c.device.Close()
	select {
	case <-received:
	case <-time.After(joinTimeout):
	}
}

func (c *console) wait(ctx context.Context, typed, received <-chan error, activity <-chan struct{}) error {
	var idle <-chan time.Time
	ended := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	}
	for {
		select {
		case <-ctx.Done():
			c.end(received)
			return nil
		case err := <-received:
			return ended(err)
		case err := <-typed:
			typed = nil
			if errors.Is(err, errQuit) || c.keys != nil && err == nil {
				c.end(received)
				return nil
			}
			if err != nil { // the device's end is told best by its reader
				return ended(<-received)
			}
			idle = time.After(c.linger)
		case <-activity:
			if idle != nil {
				idle = time.After(c.linger)
			}
		case <-idle:
			c.end(received)
			return nil
		}
	}
}

// errQuit says that the user typed Ctrl-A Ctrl-X.
var errQuit = errors.New("quit")

// send copies from the user to the device; the error is nil at the end of in.
func (c *console) send() error {
	buf := make([]byte, 4096)
	for {
		n, readErr := c.in.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			send, action, rest := p, sendOnly, []byte(nil)
			if c.keys != nil {
				send, action, rest = c.keys.feed(p)
			}
			if err := c.write(send); err != nil {
				return err
			}
			if action == quit {
				return errQuit
			}
			if c.keys != nil {
				c.keys.do(action)
			}
			p = rest
		}
		if readErr != nil {
			return nil // whatever ended it, there is no more input
		}
	}
}

func (c *console) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.echo != nil {
		c.echo.Write(bytes.ReplaceAll(p, []byte("\r"), []byte("\r\n")))
	}
	n, err := c.device.Write(p)
	c.count(n)
	return err
}

func (c *console) count(n int) { c.sent.Add(uint64(max(n, 0))) }

// receive copies from the device to the user and returns what ended it.
func (c *console) receive(activity chan<- struct{}) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.device.Read(buf)
		if n > 0 {
			c.received.Add(uint64(n))
			if _, err := c.out.Write(buf[:n]); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
			select {
			case activity <- struct{}{}:
			default:
			}
		}
		if err != nil {
			return err
		}
	}
}
