package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

// Of a ping.
const (
	pingPause   = time.Second
	pingTimeout = 5 * time.Second
)

func (a *app) pingCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ping NODE",
		Short: "Measure path, round trip and clock skew to a member",
		Args:  oneArg("the name or NodeID of a member"),
	}
	asJSON := c.Flags().Bool("json", false, "print JSON ("+client.Version+") for programs, one object per line")
	count := c.Flags().IntP("count", "c", 4, "how many times; 0: until Ctrl-C")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *count < 0 {
			return wrongUsage("ping %q: --count %d; write 0 or more", args[0], *count)
		}
		agent := a.client()
		pause := time.NewTicker(pingPause)
		defer pause.Stop()
		for n := 1; ; n++ {
			pong, err := ping(c.Context(), agent, args[0])
			if c.Context().Err() != nil {
				return nil // the user has seen enough
			}
			if err == nil {
				err = a.printPong(pong, *asJSON)
			}
			if err != nil || n == *count {
				return err
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-pause.C:
			}
		}
	}
	return a.complete(c, nodeNames)
}

func ping(ctx context.Context, agent *client.Client, node string) (client.Pong, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, pingTimeout, errors.New("no answer"))
	defer cancel()
	pong, err := agent.Ping(ctx, node)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = client.Errorf(client.Away, "\"serialspan nodes\" shows its state", "ping %q: no answer in %v", node, pingTimeout)
	}
	return pong, err
}

func (a *app) printPong(p client.Pong, asJSON bool) error {
	if asJSON {
		data, err := json.Marshal(client.PingAnswer{API: client.Version, Pong: p})
		if err == nil {
			_, err = fmt.Fprintf(a.out, "%s\n", data)
		}
		return err
	}
	way := p.Path
	if p.Endpoint != "" {
		way += " " + p.Endpoint
	}
	_, err := fmt.Fprintf(a.out, "%s  %.2f ms  %s  %s\n", printable(p.Node), p.RTT, printable(way), skewText(time.Duration(p.Skew)))
	return err
}

// skewText says how far another wall clock is off, which nothing depends on.
func skewText(skew time.Duration) string {
	switch {
	case skew.Abs() < time.Second:
		return "clocks agree"
	case skew < 0:
		return "its clock is " + since(-skew) + " behind"
	}
	return "its clock is " + since(skew) + " ahead"
}
