package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/simstick"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// demoTimeout bounds how long the demo's nodes may take to find each other.
	demoTimeout = 8 * time.Second
	// demoPoll is how often the demo looks whether they have.
	demoPoll = 10 * time.Millisecond
	// demoDevice is the name of the simulated stick.
	demoDevice = "demo-stick"
)

func (a *app) demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run three agents and a simulated stick in this process",
		Long: "demo runs an edge, a cloud and a consumer node as three real agents over UDP on loopback. The edge has\n" +
			"a simulated stick, the consumer opens it as a PTY and a TCP port. It needs no root, no hardware and no\n" +
			"network, and removes everything at the end.",
		Args: cobra.NoArgs,
	}
	once := c.Flags().Bool("once", false, "prove a round trip through the PTY and the TCP port, and exit")
	verbose := c.Flags().Bool("verbose", false, "show what the agents log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		level := "error"
		if *verbose {
			level = "debug"
		}
		logger, err := newLogger(a.err, configs.Log{Level: level}, new(slog.LevelVar))
		if err != nil {
			return err
		}
		return a.demo(c.Context(), logger, *once)
	}
	return c
}

// demo is three agents and a stick. All goroutines are in group.
type demo struct {
	app    *app
	logger *slog.Logger
	dir    string // holds everything, removed at the end
	group  *errgroup.Group

	cloud, edge, consumer runner
}

func (a *app) demo(ctx context.Context, logger *slog.Logger, once bool) (err error) {
	dir, err := os.MkdirTemp("", "serialspan-demo-")
	if err != nil {
		return fmt.Errorf("run demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	running, stop := context.WithCancel(ctx)
	group, running := errgroup.WithContext(running)
	d := &demo{app: a, logger: logger, dir: dir, group: group}
	start := time.Now()
	err = d.start(running)
	if err == nil {
		d.print(time.Since(start))
		if once {
			err = d.prove(running)
		} else {
			<-running.Done()
		}
	}
	stop()
	ended := group.Wait()
	if ctx.Err() != nil {
		return nil // the user ended it
	}
	if ended != nil {
		return ended // why an agent stopped, rather than what was waiting for it
	}
	return err
}

// start brings everything up and waits until the consumer can open the stick.
func (d *demo) start(ctx context.Context) error {
	secret, err := identity.NewSecret()
	if err != nil {
		return err
	}
	if err := identity.WriteSecretFile(filepath.Join(d.dir, configs.SecretFileName), secret); err != nil {
		return err
	}
	master, slave, err := d.app.openStick()
	if err != nil {
		return fmt.Errorf("make simulated stick: %w", err)
	}
	d.group.Go(func() error {
		defer master.Close()
		return simstick.Serve(ctx, master)
	})
	cloud := d.config("cloud", "")
	if d.cloud, err = d.run(ctx, cloud); err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, demoTimeout, errors.New("it took too long; \"serialspan demo --verbose\" shows why"))
	defer cancel()
	var through string
	err = until(wait, "the cloud node listens", func() bool {
		through = d.cloud.Status().Listen
		return through != ""
	})
	if err != nil {
		return err
	}
	edge := d.config("edge", through)
	edge.Devices.Rules = []configs.Rule{{
		Match: configs.Match{Path: slave}, Name: demoDevice, Line: "115200n81", Busy: "kick", Hold: configs.DefaultHold,
	}}
	if d.edge, err = d.run(ctx, edge); err != nil {
		return err
	}
	consumer := d.config("consumer", through)
	consumer.Attachments = []configs.Attachment{
		{Device: demoDevice, PTY: configs.PTY{Link: filepath.Join(d.dir, "consumer", demoDevice)}},
		{Device: demoDevice, TCP: "127.0.0.1:0"},
	}
	if d.consumer, err = d.run(ctx, consumer); err != nil {
		return err
	}
	return d.settle(wait)
}

// settle waits until the three see each other, the device and its attachments.
func (d *demo) settle(ctx context.Context) error {
	err := until(ctx, "three nodes join", func() bool { return d.consumer.Status().Members == 3 && d.edge.Status().Members == 3 })
	if err != nil {
		return err
	}
	err = until(ctx, "the consumer sees the device", func() bool {
		resolution, err := d.consumer.Resolve(demoDevice)
		return err == nil && resolution.Device.State == client.DeviceAvailable
	})
	if err != nil {
		return err
	}
	return until(ctx, "the consumer has the PTY and the TCP port", func() bool {
		_, err := os.Stat(d.where(client.KindPTY))
		return err == nil && d.where(client.KindTCP) != ""
	})
}

// config is the configuration of one of the three.
func (d *demo) config(name, through string) configs.Config {
	dir := filepath.Join(d.dir, name)
	config := configs.Default()
	config.Node.Name = name
	config.Node.StateDir = filepath.Join(dir, "state")
	config.Cluster.SecretFile = filepath.Join(d.dir, configs.SecretFileName)
	config.Mesh.Listen = "127.0.0.1:0"
	config.Mesh.LAN, config.Mesh.KubeSpan = false, "off"
	config.Devices.Publish = "listed"
	config.Control.Socket = filepath.Join(dir, "agent.sock")
	config.Control.LinkDirs = nil
	if through != "" {
		config.Cluster.Join = []string{through}
	}
	return config
}

// run makes an agent and runs it in the group.
func (d *demo) run(ctx context.Context, config configs.Config) (runner, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.Node.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("run demo: %w", err)
	}
	agent, err := d.app.newAgent(agentOptions{Config: config, Logger: d.logger.With("node", config.Node.Name), Version: version()})
	if err != nil {
		return nil, err
	}
	d.group.Go(func() error {
		if err := agent.Run(ctx); err != nil {
			return fmt.Errorf("run node %s: %w", config.Node.Name, err)
		}
		return nil
	})
	return agent, nil
}

// where returns the link path or address of the consumer's attachment, "" if
// it is not there yet.
func (d *demo) where(kind client.Kind) string {
	for _, attachment := range d.consumer.Attachments() {
		if attachment.Kind == kind {
			return attachment.Where
		}
	}
	return ""
}

func (d *demo) print(took time.Duration) {
	w := d.app.out
	fmt.Fprintf(w, "Three agents in this process, joined over UDP on 127.0.0.1 in %d ms:\n\n", took.Milliseconds())
	nodes := table{header: []string{"  NODE", "ID", stateColumn, "LISTENS AT"}}
	for _, agent := range []runner{d.edge, d.cloud, d.consumer} {
		status := agent.Status()
		nodes.add("  "+status.Node, status.ID.Short(), string(client.NodeAlive), status.Listen)
	}
	list := newPage(w)
	nodes.write(list)
	list.write(w, d.app.err)
	pty, tcp := d.where(client.KindPTY), d.where(client.KindTCP)
	fmt.Fprintf(w, "\nThe node edge has a simulated stick, %s. On the node consumer it is\n\n  PTY  %s\n  TCP  %s\n\n", demoDevice, pty, tcp)
	fmt.Fprintf(w, "Open it in another terminal, type HELP and Enter:\n\n  picocom -c %s\n  serialspan console --echo --socket %s %s\n\n",
		pty, filepath.Join(d.dir, "consumer", "agent.sock"), demoDevice)
}

// until waits for a condition; the error says which one did not come true.
func until(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// lineConn is an open PTY or TCP connection with deadlines.
type lineConn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}
