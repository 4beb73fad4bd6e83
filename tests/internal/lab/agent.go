package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
)

const (
	// commandTime bounds a client command.
	commandTime = 20 * time.Second
	// stopTime is how long an agent may take to leave after SIGTERM.
	stopTime = 10 * time.Second
	// logTail is how much of a log is printed when a test fails, in bytes.
	logTail = 16 << 10
)

// Settings is a configuration file: keys of DESIGN section 10 with values that
// encoding/json can write (YAML reads JSON).
type Settings map[string]any

// Agent is one running agent.
type Agent struct {
	// Name is the node's name; Dir holds its files: the configuration, the
	// secret, state, control socket and log.
	Name, Dir string
	// PID is the process.
	PID int

	tb      testing.TB
	host    *Host          // nil: where the test runs
	manager ServiceManager // nil: none
	program string
	exited  chan struct{}
	err     error // of the process; valid once exited is closed
}

// NewSecret makes a cluster with `serialspan init` and returns its secret file.
func NewSecret(tb testing.TB) string {
	tb.Helper()
	return NewSecretBy(tb, Program(tb))
}

// NewSecretBy is NewSecret by another program than bin/serialspan.
func NewSecretBy(tb testing.TB, program string) string {
	tb.Helper()
	dir := tb.TempDir()
	out, err := exec.Command(program, "init", "--dir", dir, "--name", "founder").CombinedOutput()
	if err != nil {
		tb.Fatalf("serialspan init: %v\n%s", err, out)
	}
	return filepath.Join(dir, "cluster.secret")
}

// Device returns the value of devices for one device at path.
func Device(name, path string) Settings {
	return Settings{
		"publish": "listed",
		"rules":   []Settings{{"match": Settings{"path": path}, "name": name, "line": "115200n81"}},
	}
}

// StartAgent starts an agent on the host (nil: where the test runs) and returns
// when its control socket answers. It has the secret, a state directory of its
// own and the listen address ":51821"; more holds further top-level keys, and
// replaces those. When the test ends, the agent gets SIGTERM.
func StartAgent(tb testing.TB, host *Host, name, secretFile string, more Settings) *Agent {
	tb.Helper()
	program := Program(tb)
	if host != nil && host.program != "" {
		program = host.program
	}
	return StartAgentBy(tb, program, host, name, secretFile, more)
}

// StartAgentBy is StartAgent with another program than bin/serialspan, such as
// one of an earlier revision.
func StartAgentBy(tb testing.TB, program string, host *Host, name, secretFile string, more Settings) *Agent {
	tb.Helper()
	return startAgent(tb, &Agent{Name: name, tb: tb, host: host, program: program}, secretFile, more)
}

func startAgent(tb testing.TB, a *Agent, secretFile string, more Settings) *Agent {
	tb.Helper()
	a.Dir = shortDir(tb)
	name := a.Name
	settings := Settings{
		"node":    Settings{"name": name, "state_dir": filepath.Join(a.Dir, "state")},
		"cluster": Settings{"secret_file": secretFile},
		"mesh":    Settings{"listen": ":51821", "lan": false}, // tests count datagrams
		"devices": Settings{"publish": "listed"},
		"control": Settings{"socket": a.Socket(), "link_dirs": []string{a.Dir}},
		"log":     Settings{"level": "debug"},
	}
	for key, value := range more {
		merge(settings, key, value)
	}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err == nil {
		err = os.WriteFile(a.config(), append(text, '\n'), 0o600)
	}
	if err != nil {
		tb.Fatalf("write configuration of %s: %v", name, err)
	}
	tb.Cleanup(func() {
		a.Stop()
		if tb.Failed() {
			tb.Logf("log of agent %s:\n%s", a.Name, tail(a.Log()))
		}
	})
	a.Start()
	a.WaitControl()
	return a
}

// WaitControl waits until the control socket answers.
func (a *Agent) WaitControl() {
	a.tb.Helper()
	WaitFor(a.tb, "the control socket of "+a.Name, 10*time.Second, func() error {
		if a.Exited() {
			a.tb.Fatalf("agent %s ended: %v", a.Name, a.err)
		}
		_, err := a.Client().Status(a.tb.Context())
		return err
	})
}

func merge(settings Settings, key string, value any) {
	old, both := settings[key].(Settings)
	added, isMap := value.(Settings)
	if !both || !isMap {
		settings[key] = value
		return
	}
	for k, v := range added {
		old[k] = v
	}
}

// shortDir is a folder whose path leaves room for a socket (108 bytes).
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "ssp")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (a *Agent) config() string { return filepath.Join(a.Dir, "serialspan.yaml") }

// Socket is the path of the control socket.
func (a *Agent) Socket() string { return filepath.Join(a.Dir, "agent.sock") }

// Host returns where the agent runs, nil for where the test does.
func (a *Agent) Host() *Host { return a.host }

// Client returns a client of the agent.
func (a *Agent) Client() *client.Client { return client.New(client.Config{Socket: a.Socket()}) }

// Log returns what the agent has written so far.
func (a *Agent) Log() string {
	text, _ := os.ReadFile(filepath.Join(a.Dir, "log"))
	return string(text)
}

// Start starts an agent that Stop or Kill has ended once more, with the same
// files, and does not wait for its control socket.
func (a *Agent) Start() {
	a.tb.Helper()
	if a.manager != nil {
		a.manager.start(a)
		return
	}
	program, args := a.program, a.arguments()
	if a.host != nil && a.host.program != "" {
		program, args = a.host.inKubeSpan(program, args)
	}
	cmd := command(context.Background(), a.host, program, args...)
	cmd.Env = append(os.Environ(), "SERIALSPAN_CONFIG=")
	a.run(cmd)
}

// run makes cmd the agent's process.
func (a *Agent) run(cmd *exec.Cmd) {
	a.tb.Helper()
	log, err := os.OpenFile(filepath.Join(a.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		a.tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		a.tb.Fatalf("start agent %s: %v", a.Name, err)
	}
	_ = log.Close() // the child has its own
	exited := make(chan struct{})
	a.PID, a.exited = cmd.Process.Pid, exited
	go func() {
		a.err = cmd.Wait()
		close(exited)
	}()
}

func (a *Agent) arguments() []string { return []string{"agent", "--config", a.config()} }

func command(ctx context.Context, host *Host, program string, args ...string) *exec.Cmd {
	if host != nil {
		return host.Command(ctx, program, args...)
	}
	return exec.CommandContext(ctx, program, args...)
}

// tail returns the end of a log without the questions of WaitFor.
func tail(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `msg="control request" request="GET `) {
			kept.WriteString(line)
		}
	}
	if text = kept.String(); len(text) > logTail {
		text = "[…]" + text[len(text)-logTail:]
	}
	return text
}

// Exited reports whether the process has ended; of one of Systemd's it knows
// nothing.
func (a *Agent) Exited() bool {
	if a.exited == nil {
		return false
	}
	select {
	case <-a.exited:
		return true
	default:
		return false
	}
}

// Stop ends the agent with SIGTERM. It is an error of the test if the agent
// does not leave with status 0 in time. Stopping it again does nothing.
func (a *Agent) Stop() {
	a.tb.Helper()
	if a.PID == 0 {
		return
	}
	if s, ok := a.manager.(*Systemd); ok {
		s.must("stop", "serialspan")
		a.PID = 0
		return
	}
	_ = unix.Kill(a.PID, unix.SIGTERM)
	if !a.left(stopTime) {
		a.tb.Errorf("agent %s is still there %v after SIGTERM; its goroutines are in the log", a.Name, stopTime)
		_ = unix.Kill(a.PID, unix.SIGQUIT)
		if !a.left(stopTime) {
			_ = unix.Kill(a.PID, unix.SIGKILL)
			<-a.exited
		}
	} else if a.err != nil {
		a.tb.Errorf("agent %s: %v", a.Name, a.err)
	}
	a.PID = 0
}

// Kill ends the agent as a power failure does, with SIGKILL.
func (a *Agent) Kill() {
	_ = unix.Kill(a.PID, unix.SIGKILL)
	<-a.exited
	a.PID = 0
}

func (a *Agent) left(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-a.exited:
		return true
	case <-timer.C:
		return false
	}
}

// Run runs a client command against the agent and returns its standard output.
// The error of a failed command holds what it wrote to standard error.
func (a *Agent) Run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := command(ctx, a.host, a.program, append(args, "--socket", a.Socket())...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("serialspan %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// MustRun is Run for a command that has to succeed.
func (a *Agent) MustRun(args ...string) string {
	a.tb.Helper()
	out, err := a.Run(args...)
	if err != nil {
		a.tb.Fatalf("on %s: %v", a.Name, err)
	}
	return out
}

// WaitDevice waits until the agent resolves the device and finds it available.
func (a *Agent) WaitDevice(device string, deadline time.Duration) time.Duration {
	a.tb.Helper()
	return WaitFor(a.tb, fmt.Sprintf("device %s on %s", device, a.Name), deadline, func() error {
		r, err := a.Client().Resolve(a.tb.Context(), device)
		if err == nil && r.Device.State != client.DeviceAvailable {
			err = fmt.Errorf("state is %s (%s)", r.Device.State, r.Device.Detail)
		}
		return err
	})
}

// WaitAttachment waits until the attachment at where (a link, or IP:PORT) is in
// the state.
func (a *Agent) WaitAttachment(where string, state client.AttachmentState, deadline time.Duration) time.Duration {
	a.tb.Helper()
	return WaitFor(a.tb, fmt.Sprintf("attachment %s on %s to be %s", where, a.Name, state), deadline, func() error {
		all, err := a.Client().Attachments(a.tb.Context())
		if err != nil {
			return err
		}
		for _, at := range all {
			if at.Where == where && at.State == state {
				return nil
			}
		}
		return fmt.Errorf("attachments are %+v", all)
	})
}

// ResidentMemory returns VmRSS of the agent in bytes.
func (a *Agent) ResidentMemory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID))
	if err != nil {
		return 0, fmt.Errorf("read memory of agent %s: %w", a.Name, err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10, nil
		}
	}
	return 0, errors.New("read memory of agent " + a.Name + ": no VmRSS")
}
