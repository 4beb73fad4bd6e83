package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
)

func (a *app) attachCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "attach NAME[@NODE] (--pty PATH | --tcp IP:PORT | --rfc2217 IP:PORT)",
		Short: "Open a device on this machine as a PTY or a network port",
		Args:  oneArg("NAME, NAME@NODE or LABEL=VALUE,..."),
	}
	flags := c.Flags()
	pty := flags.String("pty", "", "make a PTY and a link to it at `path`")
	mode := flags.String("mode", "", "permissions of the PTY, in `octal` (default 0600)")
	group := flags.String("group", "", "group of the PTY, `name` or number")
	tcp := flags.String("tcp", "", "listen on this `address`, raw bytes")
	rfc2217 := flags.String("rfc2217", "", "listen on this `address` for rfc2217:// clients, which also set baud rate and modem lines")
	expose := flags.Bool("expose", false, "allow an address that other machines can reach")
	line := flags.String("line", "", "line `settings` to begin with, such as 9600e71; a PTY keeps data bits and parity from here")
	take := flags.Bool("take", false, "take the device from whoever uses it now")
	ephemeral := flags.Bool("ephemeral", false, "forget it when the agent stops; others are made again at its next start")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		request := client.AttachRequest{Device: args[0], TCP: *tcp, RFC2217: *rfc2217, Expose: *expose, Line: *line, Take: takeOf(*take), Ephemeral: *ephemeral}
		switch {
		case countGiven(*pty, *tcp, *rfc2217) != 1:
			return wrongUsage("attach %q: write one of --pty PATH, --tcp IP:PORT and --rfc2217 IP:PORT", args[0])
		case *pty == "" && (*mode != "" || *group != ""):
			return wrongUsage("attach %q: --mode and --group go with --pty", args[0])
		case *pty != "":
			link, err := filepath.Abs(*pty)
			if err != nil {
				return fmt.Errorf("attach %q: %w", args[0], err)
			}
			request.PTY = &client.PTYSpec{Link: link, Group: *group}
			if *mode != "" {
				parsed, err := configs.ParseFileMode(*mode)
				if err != nil {
					return wrongUsage("attach %q: %v", args[0], err)
				}
				request.PTY.Mode = uint32(parsed)
			}
		}
		attachment, err := a.client().Attach(c.Context(), request)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.AttachmentAnswer{API: client.Version, Attachment: attachment})
		}
		fmt.Fprintf(a.out, "attached %s at %s\n", attachment.Device, attachment.Where)
		if attachment.Error != "" {
			a.note("%s", attachment.Error)
		} else if _, err := a.client().Resolve(c.Context(), args[0]); err != nil {
			a.note("%v; the attachment waits for it", err)
		}
		return nil
	}
	return a.complete(c, deviceNames)
}

// countGiven is how many words are not empty.
func countGiven(words ...string) int {
	n := 0
	for _, word := range words {
		if word != "" {
			n++
		}
	}
	return n
}

func takeOf(force bool) client.Take {
	if force {
		return client.TakeForce
	}
	return client.TakeNormal
}

// note writes a remark for people beside the output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, "serialspan: "+printable(fmt.Sprintf(format, args...)))
}
