package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) statusCommand() *cobra.Command {
	return listing[client.StatusAnswer]{
		use: "status", short: "Show how the agent of this machine is doing", list: client.ListStatus,
		get: func(ctx context.Context, c *client.Client) (client.StatusAnswer, error) {
			status, err := c.Status(ctx)
			return client.StatusAnswer{API: client.Version, Status: status}, err
		},
		print: printStatus,
	}.command(a)
}

func printStatus(p *page, s client.StatusAnswer) {
	p.line("node", "%s", s.Node)
	p.line("id", "%s", s.ID)
	p.line("mesh address", "%s", s.MeshAddress)
	p.line("cluster", "%s", dash(s.Cluster))
	if s.Key != nil {
		p.line("key", "%s", keyText(*s.Key))
	}
	p.line("listen", "%s", dash(s.Listen))
	if k := s.KubeSpan; k != nil {
		printKubeSpan(p, k)
	}
	p.line("members", "%d alive", s.Members)
	p.line("devices", "%d published here", s.Devices)
	p.line("up", "%s, start %d", since(time.Duration(s.Uptime)), s.Epoch)
	p.line("version", "%s", s.Version)
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		if s.Counters[name] > 0 {
			p.line("counter", "%s %d", name, s.Counters[name])
		}
	}
	if len(s.Problems) == 0 {
		p.line("problems", "none")
	}
	for _, problem := range s.Problems {
		p.line("problem", "%s", problem)
	}
}
