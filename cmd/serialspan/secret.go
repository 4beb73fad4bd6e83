package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

func (a *app) secretCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "secret",
		Short: "Make a cluster secret, name the one in use, or replace it",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return wrongUsage("secret: write \"secret new\", \"secret id\" or \"secret rotate\"")
		},
	}
	c.AddCommand(a.secretNewCommand(), a.secretIDCommand(), a.secretRotateCommand())
	return c
}

func (a *app) secretNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new [FILE]",
		Short: "Make the secret of a new cluster and print it, or write it to a new file",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			secret, err := identity.NewSecret()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return identity.WriteSecretFile(args[0], secret)
			}
			_, err = fmt.Fprintln(a.out, secret.Text())
			return err
		},
	}
}

func (a *app) secretIDCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id [FILE]",
		Short: "Print the fingerprint of the secret: equal on all machines of a cluster",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var file string
			if len(args) == 1 {
				file = args[0]
			} else {
				config, err := configs.Load(a.configPath)
				if err != nil {
					return err
				}
				file = config.Cluster.SecretFile
			}
			secret, err := identity.ReadSecretFile(file)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, secret.Fingerprint())
			return err
		},
	}
}
