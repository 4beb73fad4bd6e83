package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

// rotatePoll is how often the agent is asked how far it is.
const rotatePoll = 200 * time.Millisecond

func (a *app) secretRotateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the key of the cluster secret on all members",
		Long: "rotate makes a new key for the cluster secret. The agent hands it to all members that can be reached, from\n" +
			"member to member, and only then it is used; sessions go on. Members that are away get it when they are back,\n" +
			"as long as they missed two rotations at most. It goes on if this command is ended, and after a restart.",
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	dropOld := c.Flags().Bool("drop-old", false, "refuse older keys at once: members that are away must be given the new secret by hand")
	c.RunE = func(c *cobra.Command, _ []string) error {
		agent := a.client()
		number, err := agent.RotateSecret(c.Context(), client.RotateRequest{DropOld: *dropOld})
		if err != nil {
			return err
		}
		if !*asJSON {
			fmt.Fprintf(a.out, "key %d is handed out\n", number)
		}
		key, err := a.followRotation(c.Context(), agent, number, *asJSON)
		switch {
		case c.Context().Err() != nil:
			a.note("the agent goes on with it; \"serialspan status\" shows how far it is")
			return nil
		case err != nil:
			return err
		case *asJSON:
			return a.printJSON(client.KeyAnswer{API: client.Version, Key: key})
		}
		a.printRotated(key)
		return nil
	}
	return c
}

// followRotation waits for a rotation to end and says who has the new secret.
func (a *app) followRotation(ctx context.Context, agent *client.Client, number uint32, quiet bool) (client.Key, error) {
	poll := time.NewTicker(rotatePoll)
	defer poll.Stop()
	said := map[string]bool{}
	for {
		status, err := agent.Status(ctx)
		if err != nil {
			return client.Key{}, err
		}
		if status.Key == nil || status.Key.Rotation == nil || status.Key.Rotation.Number != number {
			return client.Key{}, client.Errorf(client.Stopping, "\"serialspan status\" shows the key in use", "follow rotation: the agent was started again, or rotates once more")
		}
		r := status.Key.Rotation
		for _, node := range r.Has {
			if !said[node] && !quiet {
				fmt.Fprintf(a.out, "%s has it\n", printable(node))
			}
			said[node] = true
		}
		if r.Phase == "done" || r.Phase == "overtaken" {
			return *status.Key, nil
		}
		select {
		case <-ctx.Done():
			return client.Key{}, ctx.Err()
		case <-poll.C:
		}
	}
}

func (a *app) printRotated(key client.Key) {
	r := key.Rotation
	for _, m := range r.Missing {
		fmt.Fprintf(a.out, "%s does not have it: %s\n", printable(m.Node), printable(m.Why))
	}
	if r.Phase == "overtaken" {
		fmt.Fprintf(a.out, "another member rotated at the same time, its key counts: key %d is in use\n", key.Number)
		return
	}
	fmt.Fprintf(a.out, "key %d is in use on %d members, keys from %d on let former members in\n", key.Number, len(r.Has)+1, key.Oldest)
}

// keyText says in one line how it is with the cluster secret.
func keyText(k client.Key) string {
	text := fmt.Sprintf("%d in use", k.Number)
	if k.Oldest < k.Number && k.Oldest > 0 {
		text += fmt.Sprintf(", accepted from %d on", k.Oldest)
	}
	if k.Next > 0 {
		text += fmt.Sprintf(", %d is handed out", k.Next)
	}
	if len(k.Behind) > 0 {
		text += ", behind: " + strings.Join(k.Behind, ", ")
	}
	if r := k.Rotation; r != nil && len(r.Missing) > 0 {
		var names []string
		for _, m := range r.Missing {
			names = append(names, m.Node)
		}
		text += ", not yet given to: " + strings.Join(names, ", ")
	}
	return text
}
