package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

func (a *app) nodesRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a node from the cluster, for good",
		Long: "remove takes a node out of the cluster at once: its sessions end and it cannot join again. Nothing takes that\n" +
			"back; to return, the machine has to become a new node. Members honour it if this node is in cluster.admins of\n" +
			"their configuration. Without admission: allowlist rotate the secret too.",
		Args: oneArg("the name, alias or NodeID of a node"),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		removal, err := a.client().RemoveNode(c.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(client.RemovalAnswer{API: client.Version, Removal: removal})
		}
		fmt.Fprintf(a.out, "removed %s (%s)\n", printable(cmp.Or(removal.Node, removal.ID.Short())), removal.ID)
		if removal.Everywhere {
			fmt.Fprintln(a.out, "out on all members that have this node in cluster.admins")
		}
		for _, note := range removal.Notes {
			a.note("%s", note)
		}
		return nil
	}
	return a.complete(c, nodeNames)
}
