package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/servicemanager"
	"github.com/serialspan/serialspan/configs"
)

// app is one run of the program: its streams, and what the commands need of
// the rest of the house.
type app struct {
	in       io.Reader
	out, err io.Writer

	newAgent  func(agentOptions) (runner, error)
	openStick func() (master io.ReadWriteCloser, slave string, err error)

	configPath string // --config
	socket     string // --socket
	ran        bool   // arguments and flags were right
}

// runner is an agent that runs until its context ends.
type runner interface {
	control.Agent
	Run(ctx context.Context) error
}

// agentOptions is what an agent is made of.
type agentOptions struct {
	Config  configs.Config
	Logger  *slog.Logger
	Level   *slog.LevelVar // of Logger; nil: fixed
	Version string
	Reload  func() (configs.Config, error) // nil: the file is not watched
	Manager *servicemanager.Manager        // nil: none started this process
}

// The exit codes that are not a client.Code's.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNoAgent = 5
)

// run executes the command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(a.err, "serialspan: "+printable(line))
		}
	}
	if !a.ran {
		fmt.Fprintf(a.err, "serialspan: %q tells how to use it\n", command.CommandPath()+" --help")
		return exitUsage
	}
	return exitCode(err)
}

func exitCode(err error) int {
	if errors.Is(err, client.ErrNoAgent) {
		return exitNoAgent
	}
	if code, ok := errors.AsType[client.Code](err); ok {
		return code.ExitCode()
	}
	return exitFailed
}

// wrongUsage makes an error of exit code 2.
func wrongUsage(format string, args ...any) error {
	return client.Errorf(client.Invalid, "", format, args...)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "serialspan",
		Short: "Serial devices by name, on every machine of the cluster",
		Long: "serialspan publishes the serial devices of this machine and opens those of others by name.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 busy or refused, 5 no agent.",
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRun: func(*cobra.Command, []string) { a.ran = true },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration `file` (default: $SERIALSPAN_CONFIG, ./serialspan.yaml, "+configs.DefaultDir()+"/serialspan.yaml)")
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "control `socket` of the agent (default: the configuration's)")
	root.AddCommand(
		a.initCommand(), a.joinCommand(), a.agentCommand(), a.demoCommand(),
		a.statusCommand(), a.nodesCommand(), a.devicesCommand(), a.attachmentsCommand(), a.sessionsCommand(),
		a.resolveCommand(), a.attachCommand(), a.detachCommand(), a.consoleCommand(), a.monitorCommand(), a.signalCommand(), a.pingCommand(), a.doctorCommand(),
		a.secretCommand(), a.versionCommand(),
	)
	return root
}

// client returns a client of the agent that --socket, the environment or the
// configuration names.
func (a *app) client() *client.Client {
	socket := a.socket
	if socket == "" {
		socket = configs.SocketIn(a.configPath)
	}
	return client.New(client.Config{Socket: socket})
}

// oneArg wants exactly one argument, and says which if it is not there.
func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return wrongUsage("%s: want one argument, %s; have %d", c.Name(), what, len(args))
		}
		return nil
	}
}
