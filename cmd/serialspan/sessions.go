package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) sessionsCommand() *cobra.Command {
	return listing[client.SessionsAnswer]{
		use: "sessions", short: "List who uses which device, here and from here", list: client.ListSessions,
		get: func(ctx context.Context, c *client.Client) (client.SessionsAnswer, error) {
			sessions, err := c.Sessions(ctx)
			return client.SessionsAnswer{API: client.Version, Sessions: sessions}, err
		},
		print: printSessions,
	}.command(a)
}

func printSessions(p *page, answer client.SessionsAnswer) {
	t := table{header: []string{"ID", "DEVICE", "ROLE", "PEER", stateColumn, "SINCE", "SENT", "RECEIVED", "RTT", "RESUMED", "GAPS"}}
	for _, s := range answer.Sessions {
		t.add(cut(s.ID, 8), s.Device, s.Role, s.Peer, s.State, since(time.Duration(s.Since)), size(s.Sent), size(s.Received), rtt(s.RTT), fmt.Sprint(s.Resumed), gaps(s.Gaps, s.Lost))
	}
	t.write(p)
}

// rtt writes a round trip of so many milliseconds.
func rtt(ms float64) string {
	if ms <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", ms)
}

// gaps writes how often, and how much at most, was lost.
func gaps(n int, lost uint64) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", n, size(lost))
}
