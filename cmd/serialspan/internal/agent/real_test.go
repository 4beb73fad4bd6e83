package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/agent"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// real is an agent on loopback, configured by a file, with a control socket.
type real struct {
	*agent.Agent
	t    *testing.T
	dir  string // holds everything
	file string
	log  *logBuffer
	ctl  *client.Client
	stop func()

	ttys    []rule.Candidate                             // that discovery finds; not changed after start
	machine string                                       // empty: "this machine"
	open    func(publish.PortSpec) (publish.Port, error) // nil: the tty
	exists  func(path string) bool                       // nil: it is a tty
}

// logBuffer collects what agents log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newReal writes a cluster secret and the configuration file; $DIR in text is
// the folder, which is short enough for a socket.
func newReal(t *testing.T, text string) *real {
	t.Helper()
	dir, err := os.MkdirTemp("", "ss")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret, err := identity.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteSecretFile(filepath.Join(dir, "cluster.secret"), secret); err != nil {
		t.Fatal(err)
	}
	r := &real{t: t, dir: dir, file: filepath.Join(dir, "serialspan.yaml"), log: &logBuffer{}}
	r.write(text)
	r.ctl = client.New(client.Config{Socket: filepath.Join(dir, "s")})
	return r
}

// base is what every configuration here begins with.
const base = "node: {name: garage, state_dir: $DIR/state}\nmesh: {listen: '127.0.0.1:0', lan: false}\ncontrol: {socket: $DIR/s}\n"

func (r *real) expand(text string) string { return strings.ReplaceAll(text, "$DIR", r.dir) }

// write replaces the file in place.
func (r *real) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(r.expand(text)), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// make makes the agent without running it.
func (r *real) make(machine string) error {
	r.t.Helper()
	config, err := configs.Load(r.file)
	if err != nil {
		return err
	}
	r.Agent, err = agent.New(agent.Options{
		Config: config, MachineID: machine,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Reload: func() (configs.Config, error) { return configs.Load(r.file) },
		Ports:  agent.Ports{Discover: func() ([]rule.Candidate, error) { return r.ttys, nil }, Open: r.open, Exists: r.exists},
	})
	return err
}

// start runs the agent until stop is called or the test ends.
func (r *real) start() {
	r.t.Helper()
	if err := r.make(cmp.Or(r.machine, "this machine")); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	running := r.Agent
	go func() { ended <- running.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("agent: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
	r.until("the control socket answers", func() bool {
		_, err := r.ctl.Status(context.Background())
		return err == nil
	})
}

// until waits for a condition that comes from outside, such as a file system
// event; it fails after 10 s.
func (r *real) until(what string, holds func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("not in 10 s: %s\nproblems: %s\nlog:\n%s", what, strings.Join(r.Status().Problems, "\n  "), r.log)
		}
	}
}

// problem returns the first problem in status that contains all parts, "".
func (r *real) problem(parts ...string) string {
next:
	for _, p := range r.Status().Problems {
		for _, part := range parts {
			if !strings.Contains(p, r.expand(part)) {
				continue next
			}
		}
		return p
	}
	return ""
}

func (r *real) showsProblem(parts ...string) func() bool {
	return func() bool { return r.problem(parts...) != "" }
}

// attachments returns "DEVICE WHERE ORIGIN" of each.
func (r *real) attachments() []string {
	var all []string
	for _, a := range r.Attachments() {
		where, _ := filepath.Rel(r.dir, a.Where)
		all = append(all, strings.Join([]string{a.Device, where, string(a.Origin)}, " "))
	}
	return all
}

// tty makes a PTY that stands for a device and returns its path.
func tty(t *testing.T) string {
	t.Helper()
	master, slave, err := publish.OpenSimulatedPTY()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	return slave
}
