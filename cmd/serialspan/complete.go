package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

// completeTimeout bounds how long a person waits after the tab key.
const completeTimeout = time.Second

// completer suggests words for an argument, each with an explanation.
type completer func(ctx context.Context, c *client.Client, typed string) []cobra.Completion

// complete makes the first argument of c complete from what the running agent
// knows; without an agent there are no suggestions.
func (a *app) complete(c *cobra.Command, words completer) *cobra.Command {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		var fit []cobra.Completion
		for _, word := range words(ctx, a.client(), typed) {
			if strings.HasPrefix(word, typed) {
				fit = append(fit, word)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// suggest is a word and what it is; both come from other machines.
func suggest(word, what string) cobra.Completion {
	return cobra.CompletionWithDesc(printable(word), printable(what))
}

// deviceNames suggests NAME, and NAME@NODE once there is an @ or where a name is
// not enough.
func deviceNames(ctx context.Context, c *client.Client, typed string) []cobra.Completion {
	devices, err := c.Devices(ctx)
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for _, d := range devices {
		name := d.Name
		if d.Conflict || strings.Contains(typed, "@") {
			name += "@" + d.Node
		}
		all = append(all, suggest(name, strings.TrimSpace(d.Kind+" on "+d.Node+", "+string(d.State))))
	}
	return all
}

// nodeNames suggests members.
func nodeNames(ctx context.Context, c *client.Client, _ string) []cobra.Completion {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for _, n := range nodes {
		all = append(all, suggest(n.Name, n.ID.Short()+", "+string(n.State)))
	}
	return all
}

// attachmentPlaces suggests what detach takes.
func attachmentPlaces(ctx context.Context, c *client.Client, _ string) []cobra.Completion {
	attachments, err := c.Attachments(ctx)
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for _, x := range attachments {
		all = append(all, suggest(x.Where, x.Device))
	}
	return all
}
