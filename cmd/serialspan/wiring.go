package main

import (
	"io"

	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/agent"
)

// newAgent makes the agent of this machine.
func newAgent(options agentOptions) (runner, error) {
	a, err := agent.New(agent.Options{
		Config: options.Config, Logger: options.Logger, Level: options.Level, Version: options.Version, Reload: options.Reload,
		Manager: options.Manager,
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// openStick makes the PTY behind which the demo's simulated stick is.
func openStick() (master io.ReadWriteCloser, slave string, err error) {
	return publish.OpenSimulatedPTY()
}
