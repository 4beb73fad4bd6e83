package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) devicesCommand() *cobra.Command {
	return listing[client.DevicesAnswer]{
		use: "devices", short: "List the serial devices of the cluster", list: client.ListDevices,
		get: func(ctx context.Context, c *client.Client) (client.DevicesAnswer, error) {
			return c.DevicesAnswer(ctx)
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
	for _, alone := range byReason(answer.LeftAlone) {
		p.note("left alone on this machine (%s): %s; a rule that names it by match.path publishes it all the same", alone.reason, alone.paths)
	}
	if conflict {
		p.note("a device listed as NAME@NODE shares its name with another; open it as NAME@NODE, or name it differently on its node")
	}
}

// aloneShown is how many ttys a line names: a machine may have 32 placeholders.
const aloneShown = 3

type aloneLine struct{ reason, paths string }

// byReason puts the ttys that are left alone for one reason in one line, in the
// order of their first.
func byReason(all []client.LeftAlone) []aloneLine {
	var reasons []string
	paths := map[string][]string{}
	for _, a := range all {
		if paths[a.Reason] == nil {
			reasons = append(reasons, a.Reason)
		}
		paths[a.Reason] = append(paths[a.Reason], a.Path)
	}
	var lines []aloneLine
	for _, reason := range reasons {
		some := paths[reason]
		text := strings.Join(some[:min(aloneShown, len(some))], ", ")
		if more := len(some) - aloneShown; more > 0 {
			text = fmt.Sprintf("%s and %d more", text, more)
		}
		lines = append(lines, aloneLine{reason, text})
	}
	return lines
}
