package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/cmd/serialspan/internal/governor"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/servicemanager"
	"github.com/serialspan/serialspan/configs"
)

func (a *app) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this machine",
		Long: "agent runs until it is told to stop by SIGINT or SIGTERM. The configuration file is watched: rules for\n" +
			"devices and attachments change without a restart; \"serialspan status\" says what wants one.",
		Args: cobra.NoArgs,
	}
	set := c.Flags().StringArray("set", nil, "set a configuration key, stronger than the file and the environment: `KEY=VALUE`; may be repeated")
	c.RunE = func(c *cobra.Command, _ []string) error {
		settings, err := a.settings(*set)
		if err != nil {
			return err
		}
		config, err := configs.Load(a.configPath, settings...)
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		logger, err := newLogger(a.err, config.Log, level)
		if err != nil {
			return err
		}
		manager, err := servicemanager.FromEnvironment()
		if err != nil {
			logger.Warn("service manager is not understood", "err", err)
		}
		file := config.File
		agent, err := a.newAgent(agentOptions{
			Config: config, Logger: logger, Level: level, Version: version(), Manager: manager,
			Reload: func() (configs.Config, error) { return configs.Load(file, settings...) },
		})
		if err != nil {
			return err
		}
		return govern(c.Context(), agent.Run)
	}
	return c
}

// govern runs the agent and beside it what decides on its threads.
func govern(ctx context.Context, run func(context.Context) error) error {
	governed, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { governor.Run(governed, nil) })
	defer done.Wait()
	defer stop()
	return run(ctx)
}

// settings are what flags say of the configuration.
func (a *app) settings(set []string) ([]configs.Setting, error) {
	var all []configs.Setting
	for _, text := range set {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, wrongUsage("set %q: write --set KEY=VALUE", text)
		}
		all = append(all, configs.Setting{Source: "flag --set", Key: key, Value: value})
	}
	if a.socket != "" {
		socket, err := filepath.Abs(a.socket)
		if err != nil {
			return nil, fmt.Errorf("find control socket: %w", err)
		}
		all = append(all, configs.Setting{Source: "flag --socket", Key: "control.socket", Value: socket})
	}
	return all, nil
}

// newLogger returns the logger that the configuration asks for, at a level that
// can be changed.
func newLogger(w io.Writer, config configs.Log, level *slog.LevelVar) (*slog.Logger, error) {
	var start slog.Level
	if err := start.UnmarshalText([]byte(config.Level)); err != nil {
		return nil, fmt.Errorf("read log level: %w", err)
	}
	level.Set(start)
	options := slog.HandlerOptions{Level: level}
	if config.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return slog.New(slog.NewTextHandler(w, &options)), nil
}
