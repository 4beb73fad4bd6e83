package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal"
)

const (
	ctrlA = 0x01
	ctrlX = 0x18
)

func (a *app) consoleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "console NAME[@NODE]",
		Short: "Open a device in this terminal; Ctrl-A Ctrl-X quits",
		Long: "console connects this terminal to a device. Ctrl-A Ctrl-X quits, Ctrl-A Ctrl-A sends Ctrl-A;\n" +
			"any other key after Ctrl-A is dropped. With input from a pipe every byte is sent, and after\n" +
			"its end the console stays open until nothing has been received for the --linger time.",
		Args: oneArg("NAME or NAME@NODE"),
	}
	take := c.Flags().Bool("take", false, "take the device from whoever uses it now")
	echo := c.Flags().Bool("echo", false, "show what you type, for devices that do not echo")
	linger := c.Flags().Duration("linger", time.Second, "how long to wait for more after the end of a pipe")
	c.RunE = func(c *cobra.Command, args []string) error {
		raw, err := a.client().OpenRaw(c.Context(), args[0], takeOf(*take))
		if err != nil {
			return err
		}
		defer raw.Close()
		console := console{device: raw, in: a.in, out: a.out, linger: *linger}
		if f, ok := a.in.(*os.File); ok && terminal.Is(f) {
			restore, err := terminal.MakeRaw(f)
			if err != nil {
				return err
			}
			defer restore()
			console.escape = true
			fmt.Fprintf(a.err, "connected to %s; Ctrl-A Ctrl-X quits\r\n", printable(args[0]))
			defer fmt.Fprint(a.err, "\r\n")
		}
		if *echo {
			console.echo = a.out
		}
		return console.run(c.Context())
	}
	return c
}

// console copies between a user and a device until either ends.
type console struct {
	device io.ReadWriteCloser
	in     io.Reader
	out    io.Writer
	echo   io.Writer     // nil: none
	escape bool          // Ctrl-A commands are understood
	linger time.Duration // after the end of in
}

// run returns nil if the user quit, in ended, or ctx did. Two goroutines copy;
// the one that reads the device has ended on return, the one that reads in
// stays until in has something more or ends, since a terminal's read cannot be
// called back: the process is about to exit.
func (c *console) run(ctx context.Context) error {
	typed := make(chan error, 1) // nil: end of input or quit
	go func() { typed <- c.send() }()
	received := make(chan error, 1)
	activity := make(chan struct{}, 1)
	go func() { received <- c.receive(activity) }()
	err := c.wait(ctx, typed, received, activity)
	c.device.Close()
	return err
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
			c.device.Close()
			<-received
			return nil
		case err := <-received:
			return ended(err)
		case err := <-typed:
			typed = nil
			if errors.Is(err, errQuit) || c.escape && err == nil {
				c.device.Close()
				<-received
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
			c.device.Close()
			<-received
			return nil
		}
	}
}

// errQuit says that the user typed Ctrl-A Ctrl-X.
var errQuit = errors.New("quit")

// send copies from the user to the device; the error is nil at the end of in.
func (c *console) send() error {
	var keys escape
	buf := make([]byte, 4096)
	for {
		n, err := c.in.Read(buf)
		p, quit := buf[:n], false
		if c.escape {
			p, quit = keys.feed(p)
		}
		if len(p) > 0 {
			if c.echo != nil {
				c.echo.Write(bytes.ReplaceAll(p, []byte("\r"), []byte("\r\n")))
			}
			if _, err := c.device.Write(p); err != nil {
				return err
			}
		}
		switch {
		case quit:
			return errQuit
		case err != nil:
			return nil // whatever ended it, there is no more input
		}
	}
}

// receive copies from the device to the user and returns what ended it.
func (c *console) receive(activity chan<- struct{}) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.device.Read(buf)
		if n > 0 {
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

// escape understands the keys of picocom(1): Ctrl-A, then a command.
type escape struct{ pending bool }

// feed returns what to send of the typed bytes, and whether to quit after it.
// The result shares memory with p.
func (e *escape) feed(p []byte) (send []byte, quit bool) {
	send = p[:0]
	for _, b := range p {
		switch {
		case !e.pending && b == ctrlA:
			e.pending = true
		case !e.pending:
			send = append(send, b)
		case b == ctrlX:
			return send, true
		default:
			e.pending = false
			if b == ctrlA {
				send = append(send, b)
			}
		}
	}
	return send, false
}
