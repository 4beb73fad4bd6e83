package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry/naming"
)

func (a *app) initCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a new cluster with this machine as its first node",
		Args:  cobra.NoArgs,
	}
	dir := dirFlag(c)
	name := nameFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		place, err := newPlace(*dir, *name)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(place.secretFile); err == nil {
			return client.Errorf(client.Exists, "init never overwrites; \"serialspan join HOST\" uses the secret of an existing cluster", "make cluster: %s exists", place.secretFile)
		}
		secret, err := identity.NewSecret()
		if err != nil {
			return err
		}
		if err := place.write(secret, nil); err != nil {
			return err
		}
		a.printInit(place, secret)
		return nil
	}
	return c
}

func dirFlag(c *cobra.Command) *string {
	return c.Flags().String("dir", configs.DefaultDir(), "where to write the configuration, a `directory`")
}

func nameFlag(c *cobra.Command) *string {
	return c.Flags().String("name", configs.Default().Node.Name, "what to call this machine")
}

// place is where init and join write, and under which name.
type place struct {
	dir, name              string
	configFile, secretFile string
}

// newPlace checks the name and that there is no configuration yet.
func newPlace(dir, name string) (place, error) {
	if !naming.Valid(name) {
		return place{}, wrongUsage("name %q: write 1 to 63 letters, digits, '.', '_' or '-'", name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return place{}, fmt.Errorf("make configuration: %w", err)
	}
	p := place{dir: dir, name: name, configFile: filepath.Join(dir, configs.FileName), secretFile: filepath.Join(dir, configs.SecretFileName)}
	if _, err := os.Lstat(p.configFile); err == nil {
		return place{}, client.Errorf(client.Exists, "edit it, or choose another place with --dir", "make configuration: %s exists and is not overwritten", p.configFile)
	}
	return p, nil
}

// write makes both files; an equal secret that is there already is kept.
func (p place) write(secret identity.Secret, join []string) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return fmt.Errorf("make configuration: %w", err)
	}
	err := identity.WriteSecretFile(p.secretFile, secret)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		kept, readErr := identity.ReadSecretFile(p.secretFile)
		switch {
		case readErr != nil:
			return readErr
		case kept != secret:
			return client.Errorf(client.Exists, "remove it if this machine shall change its cluster", "make configuration: %s holds another secret, %s", p.secretFile, kept.Fingerprint())
		}
		err = nil
	}
	if err != nil {
		return err
	}
	starter := configs.Starter{Name: p.name, Join: join}
	if p.dir != configs.DefaultDir() {
		starter.StateDir = "state" // a place of its own: nothing outside dir is used
	}
	if err := writeNew(p.configFile, starter.File()); err != nil {
		if made {
			os.Remove(p.secretFile)
		}
		return fmt.Errorf("make configuration: %w", err)
	}
	return nil
}

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// agentCommandLine is how to start the agent with this configuration.
func (p place) agentCommandLine() string {
	if p.dir == configs.DefaultDir() {
		return "serialspan agent"
	}
	return "serialspan agent --config " + p.configFile
}

func (a *app) printInit(p place, secret identity.Secret) {
	host, other := reachableAs()
	fmt.Fprintf(a.out, `made a new cluster with the node %q
  configuration  %s
  secret         %s (%s; whoever has it can join)

start the agent on this machine:
  %s

on the second machine, run
  serialspan join %s
and paste the secret when it asks; this shows it here:
  cat %s
`, p.name, p.configFile, p.secretFile, secret.Fingerprint(), p.agentCommandLine(), host, p.secretFile)
	if other {
		fmt.Fprintf(a.out, "(%s is an address of this machine; any name or address that reaches its UDP port %d will do)\n", host, configs.DefaultPort)
	}
}

// reachableAs guesses how others reach this machine: by its first global or
// private address, else by its host name. isAddress tells which.
func reachableAs() (host string, isAddress bool) {
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, address := range addresses {
			prefix, err := netip.ParsePrefix(address.String())
			if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
				return prefix.Addr().String(), true
			}
		}
	}
	host, err = os.Hostname()
	if err != nil {
		return "HOST", false
	}
	return host, false
}
