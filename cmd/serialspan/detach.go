package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) detachCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "detach PATH|ADDRESS|NAME|ID",
		Short: "Remove an attachment by its link, address, device or ID",
		Args:  oneArg("the link, address, device or ID of an attachment"),
		RunE: func(c *cobra.Command, args []string) error {
			attachment, err := a.client().Detach(c.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "detached %s from %s\n", attachment.Device, attachment.Where)
			return nil
		},
	}
}
