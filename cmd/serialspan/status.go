package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the agent of this machine is doing",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		status, err := a.client().Status(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.StatusAnswer{API: client.Version, Status: status})
		}
		a.printStatus(status)
		return nil
	}
	return c
}

func (a *app) printStatus(s client.Status) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-13s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("node", "%s", s.Node)
	line("id", "%s", s.ID)
	line("mesh address", "%s", s.MeshAddress)
	line("cluster", "%s", dash(s.Cluster))
	line("listen", "%s", dash(s.Listen))
	line("members", "%d alive", s.Members)
	line("devices", "%d published here", s.Devices)
	line("up", "%s, start %d", since(time.Duration(s.Uptime)), s.Epoch)
	line("version", "%s", s.Version)
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		if s.Counters[name] > 0 {
			line("counter", "%s %d", name, s.Counters[name])
		}
	}
	if len(s.Problems) == 0 {
		line("problems", "none")
	}
	for _, problem := range s.Problems {
		line("problem", "%s", problem)
	}
}
