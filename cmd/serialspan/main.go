// Command serialspan is the agent and everything a user types: one file per
// command. It is the only place that sees mesh, registry and bridge together;
// the wiring is in internal/agent.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 busy or refused,
// 5 no agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(Main()) }

// Main runs the command that the process was started with and returns its
// exit code. SIGINT, SIGTERM and SIGHUP end it in good order.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, newAgent: newAgent, openStick: openStick}
	return a.run(ctx, os.Args[1:])
}
