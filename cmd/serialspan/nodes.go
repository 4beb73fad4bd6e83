package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) nodesCommand() *cobra.Command {
	return listing[client.NodesAnswer]{
		use: "nodes", short: "List the members of the cluster", list: client.ListNodes,
		get: func(ctx context.Context, c *client.Client) (client.NodesAnswer, error) {
			nodes, err := c.Nodes(ctx)
			return client.NodesAnswer{API: client.Version, Nodes: nodes}, err
		},
		print: printNodes,
	}.command(a)
}

func printNodes(p *page, answer client.NodesAnswer) {
	t := table{header: []string{"NAME", "ID", stateColumn, "PATH", "ENDPOINT", "RTT", "VERSION"}}
	for _, n := range answer.Nodes {
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
	t.write(p)
}
