package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// doctorTimeout bounds what the agent is asked.
const doctorTimeout = 10 * time.Second

// doctorAnswer is what doctor --json prints.
type doctorAnswer struct {
	API      string    `json:"api"`
	Findings []finding `json:"findings"`
}

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong here, and what to do",
		Long: "doctor looks at the configuration, this machine and its agent, and prints for each finding what it is, the\n" +
			"evidence, and what to do. Hints are findings too, but nothing that is wrong. It sends each member that is reached\n" +
			"some datagrams of full size, and takes some seconds where those do not get through.\n\n" +
			"Exit codes: 0 nothing is wrong, 1 something is.",
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), doctorTimeout)
		defer cancel()
		findings := diagnose(a.examine(ctx))
		wrong := 0
		for _, f := range findings {
			if !f.Hint {
				wrong++
			}
		}
		if *asJSON {
			if err := a.printJSON(doctorAnswer{API: client.Version, Findings: findings}); err != nil {
				return err
			}
		} else {
			a.printFindings(findings)
		}
		if wrong == 0 {
			return nil
		}
		return fmt.Errorf("doctor: %d wrong", wrong)
	}
	return c
}

func (a *app) printFindings(findings []finding) {
	for i, f := range findings {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		mark := ""
		if f.Hint {
			mark = " (hint)"
		}
		fmt.Fprintf(a.out, "%s%s\n  evidence  %s\n", printable(f.What), mark, printable(f.Evidence))
		if f.Do != "" {
			fmt.Fprintf(a.out, "  to do     %s\n", printable(f.Do))
		}
	}
	if len(findings) == 0 {
		fmt.Fprintln(a.out, "nothing is wrong")
	}
}

// examine gathers what diagnose needs, as far as it can be had.
func (a *app) examine(ctx context.Context) patient {
	p := patient{machine: look()}
	config, err := configs.Load(a.configPath)
	p.configErr = err
	if errors.Is(err, configs.ErrNoConfig) && a.socket != "" {
		p.configErr = nil // it was said where the agent is
	}
	agent := a.client()
	status, err := agent.Status(ctx)
	if err != nil {
		p.agentErr = err
		if p.configErr == nil && config.Mesh.Listen != "" {
			if p.listenErr = tryListen(config.Mesh.Listen); p.listenErr != nil {
				p.listenHolder = p.machine.holder(portOf(config.Mesh.Listen))
			}
			p.stateErr = tryState(config.Node.StateDir)
			_, p.secretErr = identity.ReadSecretFile(config.Cluster.SecretFile)
		}
		return p
	}
	p.status = status
	var errs [4]error
	p.nodes, errs[0] = agent.Nodes(ctx)
	p.devices, errs[1] = agent.Devices(ctx)
	p.sessions, errs[2] = agent.Sessions(ctx)
	p.paths, errs[3] = agent.PathSizes(ctx)
	p.agentErr = errors.Join(errs[:]...)
	return p
}
