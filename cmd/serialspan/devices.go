package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) devicesCommand() *cobra.Command {
	return listing[client.DevicesAnswer]{
		use: "devices", short: "List the serial devices of the cluster", list: client.ListDevices,
		get: func(ctx context.Context, c *client.Client) (client.DevicesAnswer, error) {
			devices, err := c.Devices(ctx)
			return client.DevicesAnswer{API: client.Version, Devices: devices}, err
		},
		print: printDevices,
	}.command(a)
}

func printDevices(p *page, answer client.DevicesAnswer) {
	if len(answer.Devices) == 0 {
		p.note("no devices are published; \"serialspan nodes\" shows whether the other machines are there")
	}
	t := table{header: []string{"NAME", "NODE", "KIND", stateColumn, "USER"}}
	conflict := false
	for _, d := range answer.Devices {
		name := d.Name
		if d.Conflict {
			name, conflict = d.Name+"@"+d.Node, true
		}
		t.add(name, d.Node, dash(d.Kind), string(d.State), dash(d.User))
	}
	t.write(p)
	for _, d := range answer.Devices {
		if d.State == client.DeviceFault && d.Detail != "" {
			p.note("%s@%s: %s", d.Name, d.Node, d.Detail)
		}
	}
	if conflict {
		p.note("a device listed as NAME@NODE shares its name with another; open it as NAME@NODE, or name it differently on its node")
	}
}
