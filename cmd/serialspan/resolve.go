package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) resolveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "resolve NAME[@NODE]",
		Short: "Say which device a name means now, and where it is",
		Args:  oneArg("NAME, NAME@NODE or LABEL=VALUE,..."),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		resolution, err := a.client().Resolve(c.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.ResolveAnswer{API: client.Version, Resolution: resolution})
		}
		a.printDevice(resolution.Device)
		return nil
	}
	return a.complete(c, deviceNames)
}

func (a *app) printDevice(d client.Device) {
	hardware := d.Hardware.Path
	if d.Hardware.VID != "" {
		hardware = d.Hardware.VID + ":" + d.Hardware.PID
		for _, part := range []string{d.Hardware.Serial, d.Hardware.Interface, d.Hardware.Port} {
			if part != "" {
				hardware += " " + part
			}
		}
	}
	state := string(d.State)
	if d.User != "" {
		state += " by " + d.User
	}
	for _, line := range [][2]string{
		{"device", d.Name}, {"node", d.Node + " (" + d.NodeID.Short() + ")"}, {"kind", d.Kind}, {"state", state},
		{"line", d.Line}, {"hardware", hardware}, {"profile", d.Profile}, {"resets", resets(d)}, {"detail", d.Detail},
	} {
		if line[1] != "" {
			fmt.Fprintf(a.out, "%-13s %s\n", line[0], printable(line[1]))
		}
	}
}

// resets lists the reset recipes of a device.
func resets(d client.Device) string {
	var names []string
	for _, capability := range d.Capabilities {
		if name, ok := strings.CutPrefix(capability, "reset:"); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
