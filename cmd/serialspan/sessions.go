package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) sessionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sessions",
		Short: "List who uses which device, here and from here",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		sessions, err := a.client().Sessions(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.SessionsAnswer{API: client.Version, Sessions: sessions})
		}
		t := table{header: []string{"ID", "DEVICE", "ROLE", "PEER", "STATE", "SINCE", "SENT", "RECEIVED"}}
		for _, s := range sessions {
			t.add(cut(s.ID, 8), s.Device, s.Role, s.Peer, s.State, since(time.Duration(s.Since)), size(s.Sent), size(s.Received))
		}
		t.write(a.out)
		return nil
	}
	return c
}
