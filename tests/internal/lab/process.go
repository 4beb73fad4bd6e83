package lab

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program of somebody else.
type Process struct {
	// PID is the program's own, also where it runs on a host.
	PID int

	mu     sync.Mutex
	output bytes.Buffer
}

// Run starts a program on the host (nil: where the test runs). When the test
// ends it gets SIGTERM, after 5 s SIGKILL; if the test failed, what it wrote is
// printed.
func Run(tb testing.TB, host *Host, program string, args ...string) *Process {
	tb.Helper()
	p := &Process{}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, host, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		cancel()
		tb.Fatalf("start %s: %v", program, err)
	}
	p.PID = cmd.Process.Pid
	tb.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Logf("%s:\n%s", strings.Join(append([]string{program}, args...), " "), p.Output())
		}
	})
	return p
}

// Write takes what the program writes; it is for the program only.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// Output returns what the program has written so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}
