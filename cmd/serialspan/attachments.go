package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) attachmentsCommand() *cobra.Command {
	return listing[client.AttachmentsAnswer]{
		use: "attachments", short: "List the devices opened on this machine", list: client.ListAttachments,
		get: func(ctx context.Context, c *client.Client) (client.AttachmentsAnswer, error) {
			attachments, err := c.Attachments(ctx)
			return client.AttachmentsAnswer{API: client.Version, Attachments: attachments}, err
		},
		print: printAttachments,
	}.command(a)
}

func printAttachments(p *page, answer client.AttachmentsAnswer) {
	t := table{header: []string{"DEVICE", "WHERE", stateColumn, "SINCE", "SENT", "RECEIVED"}}
	for _, x := range answer.Attachments {
		t.add(x.Device, x.Where, string(x.State), since(time.Duration(x.Since)), size(x.Sent), size(x.Received))
	}
	t.write(p)
	for _, x := range answer.Attachments {
		if x.Error != "" {
			p.note("%s: %s", x.Where, x.Error)
		}
	}
}
