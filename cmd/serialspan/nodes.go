package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) nodesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "nodes",
		Short: "List the members of the cluster",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		nodes, err := a.client().Nodes(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.NodesAnswer{API: client.Version, Nodes: nodes})
		}
		t := table{header: []string{"NAME", "ID", "STATE", "PATH", "ENDPOINT", "RTT", "VERSION"}}
		for _, n := range nodes {
			rtt := "-"
			if n.RTT > 0 {
				rtt = fmt.Sprintf("%.1fms", n.RTT)
			}
			path := dash(n.Path)
			if n.Self {
				path = "self"
			}
			t.add(n.Name, n.ID.Short(), string(n.State), path, dash(n.Endpoint), rtt, dash(n.Version))
		}
		t.write(a.out)
		return nil
	}
	return c
}
