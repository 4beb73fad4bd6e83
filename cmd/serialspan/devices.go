package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) devicesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "devices",
		Short: "List the serial devices of the cluster",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		devices, err := a.client().Devices(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.DevicesAnswer{API: client.Version, Devices: devices})
		}
		if len(devices) == 0 {
			fmt.Fprintln(a.err, "no devices are published; \"serialspan nodes\" shows whether the other machines are there")
		}
		t := table{header: []string{"NAME", "NODE", "KIND", "STATE", "USER"}}
		conflict := false
		for _, d := range devices {
			name := d.Name
			if d.Conflict {
				name, conflict = d.Name+"@"+d.Node, true
			}
			t.add(name, d.Node, dash(d.Kind), string(d.State), dash(d.User))
		}
		t.write(a.out)
		if conflict {
			fmt.Fprintln(a.err, "a device listed as NAME@NODE shares its name with another; open it as NAME@NODE, or name it differently on its node")
		}
		return nil
	}
	return c
}
