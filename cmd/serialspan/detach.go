package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) detachCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "detach PATH|ADDRESS|NAME|ID",
		Short: "Remove an attachment by its link, address, device or ID",
		Long: "detach removes an attachment made by command for good, and one of the configuration file until its\n" +
			"entry there changes or the agent starts again.",
		Args: oneArg("the link, address, device or ID of an attachment"),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		attachment, err := a.client().Detach(c.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.AttachmentAnswer{API: client.Version, Attachment: attachment})
		}
		fmt.Fprintf(a.out, "detached %s from %s\n", attachment.Device, attachment.Where)
		if attachment.Origin == client.OriginFile {
			a.note("the configuration file has it: it comes back when the agent starts again, unless it is removed there")
		}
		return nil
	}
	return a.complete(c, attachmentPlaces)
}
