package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) signalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "signal NAME[@NODE] (dtr=on|off | rts=on|off | break=TIME)… | reset=RECIPE",
		Short: "Move the modem lines of a device, or reset it",
		Long: "signal moves DTR and RTS and sends breaks, in the order of the words; dtr and rts that stand side by side\n" +
			"change at the same moment. reset=RECIPE runs a recipe of the device's profile; \"serialspan resolve NAME\"\n" +
			"lists those. It runs on the device's node, with the timing kept there, and whoever uses the device stays.",
		Example: "  serialspan signal lab-esp32 dtr=off rts=on\n  serialspan signal garage-meter break=250ms\n  serialspan signal lab-esp32 reset=bootloader",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return wrongUsage("signal: want a device and what to do with it, such as dtr=off or reset=RECIPE")
			}
			return nil
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.client().Signal(c.Context(), client.SignalRequest{Device: args[0], Words: args[1:]}); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "signalled %s: %s\n", printable(args[0]), printable(strings.Join(args[1:], " ")))
		return nil
	}
	return a.complete(c, deviceNames)
}
