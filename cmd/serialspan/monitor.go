package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) monitorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "monitor NAME[@NODE]",
		Short: "Read along at a device, whoever uses it",
		Long: "monitor prints what a device sends (<) and gets (>), with the seconds since the monitor began on the clock of\n" +
			"the device's node, and between that changes of line settings and modem lines, gaps and who uses the device.\n" +
			"It changes nothing and delays nobody; what it does not take in time is a gap. Ctrl-C ends it.",
		Args: oneArg("NAME, NAME@NODE or LABEL=VALUE,..."),
	}
	hex := c.Flags().Bool("hex", false, "print bytes in hexadecimal and as text")
	file := c.Flags().String("capture", "", "also write a new pcap `file`, for Wireshark")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		show := printEvents(a.out, *hex)
		if *file != "" {
			f, err := os.OpenFile(*file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, os.ErrExist) {
				return client.Errorf(client.Exists, "name another file, or remove it", "write capture: %s exists", *file)
			}
			if err != nil {
				return fmt.Errorf("write capture: %w", err)
			}
			defer f.Close()
			write, err := capture.NewWriter(f)
			if err != nil {
				return fmt.Errorf("write capture: %w", err)
			}
			shown := show
			show = func(e capture.Event) error { return errors.Join(write.Write(e), shown(e)) }
		}
		monitor, err := a.client().OpenMonitor(c.Context(), args[0])
		if err != nil {
			if *file != "" {
				os.Remove(*file) // nothing but the header is in it
			}
			return err
		}
		stop := context.AfterFunc(c.Context(), func() { monitor.Close() })
		defer stop()
		defer monitor.Close()
		for {
			event, err := monitor.Next()
			if err == nil {
				err = show(event)
			}
			switch {
			case err == nil:
			case c.Context().Err() != nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
				return nil
			default:
				return err
			}
		}
	}
	return a.complete(c, deviceNames)
}

// hexRow is how many bytes stand in a row.
const hexRow = 16

// printEvents returns what prints events for people.
func printEvents(to io.Writer, hex bool) func(capture.Event) error {
	out := bufio.NewWriter(to)
	return func(e capture.Event) error {
		at := fmt.Sprintf("%12.6f", e.At.Seconds())
		sign := map[capture.Kind]string{capture.FromDevice: "<", capture.ToDevice: ">"}[e.Kind]
		switch {
		case sign == "":
			if text := eventText(e); text != "" {
				fmt.Fprintf(out, "%s - %s\n", at, printable(text))
			}
		case !hex:
			text := strconv.QuoteToASCII(string(e.Data))
			fmt.Fprintf(out, "%s %s %s\n", at, sign, text[1:len(text)-1])
		default:
			for row := e.Data; len(row) > 0; row = row[min(hexRow, len(row)):] {
				part := row[:min(hexRow, len(row))]
				fmt.Fprintf(out, "%s %s %-*s  %s\n", at, sign, 3*hexRow-1, fmt.Sprintf("% x", part), dots(part))
			}
		}
		return out.Flush()
	}
}

// dots shows bytes that are no printable ASCII as dots.
func dots(b []byte) string {
	text := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c > '~' {
			c = '.'
		}
		text[i] = c
	}
	return string(text)
}

// eventText says what happened besides bytes, "" for a kind of a newer agent.
func eventText(e capture.Event) string {
	switch e.Kind {
	case capture.Line:
		return "line " + e.Text
	case capture.Modem:
		return fmt.Sprintf("modem on: %s; off: %s", dash(e.On.String()), dash((e.Mask &^ e.On).String()))
	case capture.Gap:
		from := map[capture.Kind]string{capture.FromDevice: "from the device", capture.ToDevice: "to the device"}[e.Of]
		switch {
		case e.Unknown && e.Lost == 0:
			return "gap " + from + ", nobody knows of how much"
		case e.Unknown:
			return fmt.Sprintf("gap %s of %s or more", from, size(e.Lost))
		}
		return fmt.Sprintf("gap %s of %s", from, size(e.Lost))
	case capture.Purge:
		var what []string
		if e.Bits&1 != 0 {
			what = append(what, "what it had sent")
		}
		if e.Bits&2 != 0 {
			what = append(what, "what was on its way to it")
		}
		return "purged " + strings.Join(what, " and ")
	case capture.Port:
		state := "device away"
		if e.Open {
			state = "device there"
		}
		if e.Text != "" {
			state += ": " + e.Text
		}
		return state
	case capture.Note:
		return e.Text
	}
	return ""
}
