package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) attachmentsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "attachments",
		Short: "List the devices opened on this machine",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		attachments, err := a.client().Attachments(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.AttachmentsAnswer{API: client.Version, Attachments: attachments})
		}
		t := table{header: []string{"DEVICE", "WHERE", "STATE", "SINCE", "SENT", "RECEIVED"}}
		for _, x := range attachments {
			t.add(x.Device, x.Where, string(x.State), since(time.Duration(x.Since)), size(x.Sent), size(x.Received))
		}
		t.write(a.out)
		for _, x := range attachments {
			if x.Error != "" {
				a.note("%s: %s", x.Where, x.Error)
			}
		}
		return nil
	}
	return c
}
