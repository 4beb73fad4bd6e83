package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// systemdProgram is where Debian has it.
const systemdProgram = "/usr/lib/systemd/systemd"

// Systemd is systemd itself, as a user's service manager: of the same code as
// process 1, and needing nothing of the machine but a /run of its own, which it
// has in a mount namespace.
type Systemd struct {
	tb  testing.TB
	dir string // its home
	pid int
}

// NewSystemd starts one; it and its services end with the test. It skips the
// test without root or systemd.
func NewSystemd(tb testing.TB) *Systemd {
	tb.Helper()
	if os.Geteuid() != 0 {
		Skip(tb, "needs root for a mount namespace: run it with sudo")
	}
	NeedTools(tb, "systemctl", "unshare", "nsenter", systemdProgram)
	s := &Systemd{tb: tb, dir: shortDir(tb)}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	const script = `mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR" && exec "$0" --user --log-target=console`
	cmd := exec.Command("unshare", "--mount", "/bin/sh", "-c", script, systemdProgram)
	cmd.Env = append(os.Environ(), s.environment()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start systemd: %v", err)
	}
	_ = log.Close()
	s.pid = cmd.Process.Pid
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it says nothing that its log does not
		close(exited)
	}()
	tb.Cleanup(func() {
		_ = unix.Kill(s.pid, unix.SIGTERM)
		select {
		case <-exited:
		case <-time.After(2 * stopTime):
			_ = unix.Kill(s.pid, unix.SIGKILL)
			<-exited
		}
		if tb.Failed() {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			tb.Logf("log of systemd:\n%s", tail(string(text)))
		}
	})
	WaitFor(tb, "systemd", 20*time.Second, func() error {
		_, err := s.Run("list-units", "--no-legend")
		return err
	})
	return s
}

func (s *Systemd) environment() []string {
	return []string{"HOME=" + s.dir, "XDG_CONFIG_HOME=" + filepath.Join(s.dir, "config"), "XDG_RUNTIME_DIR=/run/user/0", "SYSTEMD_PAGER=", "NOTIFY_SOCKET="}
}

// Run runs systemctl and returns what it prints.
func (s *Systemd) Run(args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"--mount", "--target", strconv.Itoa(s.pid), "systemctl", "--user"}, args...)...)
	cmd.Env = append(os.Environ(), s.environment()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// must is Run for what has to succeed.
func (s *Systemd) must(args ...string) string {
	s.tb.Helper()
	out, err := s.Run(args...)
	if err != nil {
		s.tb.Fatal(err)
	}
	return out
}

// Property returns a property of the agent's service, as `systemctl show` does.
func (s *Systemd) Property(name string) string {
	s.tb.Helper()
	return s.must("show", "--property", name, "--value", "serialspan")
}

// install makes the service of deploy/systemd run the agent.
func (s *Systemd) install(a *Agent) {
	s.tb.Helper()
	unit, err := os.ReadFile(filepath.Join(Root(s.tb), "deploy", "systemd", "serialspan.service"))
	if err != nil {
		s.tb.Fatal(err)
	}
	units := filepath.Join(s.dir, "config", "systemd", "user")
	dropIn := fmt.Sprintf("[Service]\nExecStart=\nExecStart=%s agent --config %s\nStandardOutput=append:%s\nStandardError=inherit\n",
		a.program, a.config(), filepath.Join(a.Dir, "log"))
	for name, text := range map[string]string{"serialspan.service": string(unit), "serialspan.service.d/test.conf": dropIn} {
		path := filepath.Join(units, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.tb.Fatal(err)
		}
	}
	s.must("daemon-reload")
}

// ServiceManager is what starts an agent and keeps its files: a Manager or a
// Systemd. An agent that it has stops and starts by it.
type ServiceManager interface {
	start(a *Agent)
	restart(a *Agent)
	killAndRestart(a *Agent)
}

// start starts the service, which is ready when it returns.
func (s *Systemd) start(a *Agent) {
	s.install(a)
	s.must("start", "serialspan")
	s.took(a)
}

func (s *Systemd) took(a *Agent) {
	s.tb.Helper()
	pid, err := strconv.Atoi(s.Property("MainPID"))
	if err != nil || pid == 0 {
		s.tb.Fatalf("service has process %d, %v", pid, err)
	}
	a.PID = pid
}

func (s *Systemd) restart(a *Agent) {
	s.tb.Helper()
	s.must("restart", "serialspan")
	s.took(a)
}

func (s *Systemd) killAndRestart(a *Agent) {
	s.tb.Helper()
	was := strconv.Itoa(a.PID)
	_ = unix.Kill(a.PID, unix.SIGKILL)
	WaitFor(s.tb, "systemd to start the agent again", 20*time.Second, func() error {
		if state, pid := s.Property("ActiveState"), s.Property("MainPID"); state != "active" || pid == was || pid == "0" {
			return fmt.Errorf("it is %s with process %s", state, pid)
		}
		return nil
	})
	s.took(a)
}
