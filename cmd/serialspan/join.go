package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// secretVariable holds the text of the secret for "join".
const secretVariable = "SERIALSPAN_SECRET"

func (a *app) joinCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "join HOST[:PORT]",
		Short: "Configure this machine for an existing cluster",
		Long: "join writes the configuration that joins through HOST, any member of the cluster. The secret is read\n" +
			"from --secret-file, from $" + secretVariable + ", or asked for. Nothing is sent: the agent joins when it runs.",
		Args: oneArg("HOST or HOST:PORT of any member of the cluster"),
	}
	dir := dirFlag(c)
	name := nameFlag(c)
	secretFile := c.Flags().String("secret-file", "", "`file` that holds the cluster secret, mode 0600")
	c.RunE = func(c *cobra.Command, args []string) error {
		host, err := configs.JoinAddress(args[0])
		if err != nil {
			return wrongUsage("%v", err)
		}
		place, err := newPlace(*dir, *name)
		if err != nil {
			return err
		}
		secret, err := a.readSecret(c.Context(), *secretFile)
		if err != nil {
			return err
		}
		if err := place.write(secret, []string{host}); err != nil {
			return err
		}
		fmt.Fprintf(a.out, `configured the node %q to join through %s
  configuration  %s
  secret         %s (%s)

start the agent on this machine:
  %s
then see who is there, and which devices:
  serialspan nodes
  serialspan devices
`, place.name, host, place.configFile, place.secretFile, secret.Fingerprint(), place.agentCommandLine())
		return nil
	}
	return c
}

func (a *app) readSecret(ctx context.Context, file string) (identity.Secret, error) {
	if file != "" {
		return identity.ReadSecretFile(file)
	}
	text := os.Getenv(secretVariable)
	if text == "" {
		var err error
		if text, err = terminal.Ask(ctx, a.in, a.err, "cluster secret (ssp1…): "); err != nil {
			return identity.Secret{}, fmt.Errorf("read cluster secret: %w", err)
		}
	}
	return identity.ParseSecret(text)
}
