package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/configs"
)

func (a *app) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this machine",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := configs.Load(a.configPath)
			if err != nil {
				return err
			}
			if a.socket != "" {
				config.Control.Socket = a.socket
			}
			logger, err := newLogger(a.err, config.Log)
			if err != nil {
				return err
			}
			agent, err := a.newAgent(agentOptions{Config: config, Logger: logger, Version: version()})
			if err != nil {
				return err
			}
			return agent.Run(c.Context())
		},
	}
}

// newLogger returns the logger that the configuration asks for.
func newLogger(w io.Writer, config configs.Log) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.Level)); err != nil {
		return nil, fmt.Errorf("read log level: %w", err)
	}
	options.Level = level
	if config.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return slog.New(slog.NewTextHandler(w, &options)), nil
}
