package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) nodesCommand() *cobra.Command {
	c := listing[client.NodesAnswer]{
		use: "nodes", short: "List the members of the cluster", list: client.ListNodes,
		get: func(ctx context.Context, c *client.Client) (client.NodesAnswer, error) {
			nodes, err := c.Nodes(ctx)
			return client.NodesAnswer{API: client.Version, Nodes: nodes}, err
		},
		print: printNodes,
	}.command(a)
	c.AddCommand(a.nodesRemoveCommand())
	return c
}

func printNodes(p *page, answer client.NodesAnswer) {
	t := table{header: []string{"NAME", "ID", stateColumn, "PATH", "ENDPOINT", "RTT", "SKEW", "VERSION", "HEARD"}}
	for _, n := range answer.Nodes {
		skew, heard := "-", "-"
		if n.Skew != nil {
			skew = signedSkew(time.Duration(*n.Skew))
		}
		if n.Heard != nil {
			heard = since(time.Duration(*n.Heard))
		}
		path := dash(n.Path)
		if n.Self {
			path = "self"
		}
		t.add(n.Name, n.ID.Short(), string(n.State), path, dash(n.Endpoint), rtt(n.RTT), skew, dash(n.Version), heard)
	}
	t.write(p)
}

// signedSkew writes how far a wall clock is ahead: "+0.2s", "-3h", "-10y".
func signedSkew(skew time.Duration) string {
	sign := "+"
	if skew < 0 {
		sign = "-"
	}
	const day, year = 24 * time.Hour, 8766 * time.Hour
	switch d := skew.Abs(); {
	case d < 50*time.Millisecond:
		return "0.0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%s%.1fs", sign, d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%s%.0fs", sign, d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%s%.0fm", sign, d.Minutes())
	case d < 2*day:
		return fmt.Sprintf("%s%.0fh", sign, d.Hours())
	case d < year:
		return fmt.Sprintf("%s%dd", sign, d/day)
	default:
		return fmt.Sprintf("%s%dy", sign, (d+year/2)/year)
	}
}
