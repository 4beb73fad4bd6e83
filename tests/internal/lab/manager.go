package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is a service manager as systemd is one: agents tell it on a datagram
// socket that they are ready, give it files to keep, and get them back when it
// starts the next (sd_notify(3), sd_listen_fds(3)). Its methods are safe for
// concurrent use.
type Manager struct {
	tb     testing.TB
	socket *net.UnixConn
	path   string
	done   chan struct{}

	mu    sync.Mutex
	kept  []keptFile
	heard []string // first lines of the messages
}

type keptFile struct {
	name string
	file *os.File
}

// NewManager starts one; it ends with the test.
func NewManager(tb testing.TB) *Manager {
	tb.Helper()
	path := filepath.Join(shortDir(tb), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		tb.Fatalf("make a service manager: %v", err)
	}
	m := &Manager{tb: tb, socket: socket, path: path, done: make(chan struct{})}
	go m.listen()
	tb.Cleanup(func() {
		_ = socket.Close()
		<-m.done
		m.StopService()
	})
	return m
}

// listen takes messages until the socket is closed.
func (m *Manager) listen() {
	defer close(m.done)
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(253*4))
	for {
		n, size, _, _, err := m.socket.ReadMsgUnix(text, rights)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				m.tb.Errorf("service manager: %v", err)
			}
			return
		}
		m.take(string(text[:n]), received(rights[:size]))
	}
}

func received(rights []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "kept"))
		}
	}
	return files
}

func (m *Manager) take(text string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[key] = value
	}
	first, _, _ := strings.Cut(text, "\n")
	m.heard = append(m.heard, first)
	switch {
	case values["FDSTORE"] == "1" && values["FDPOLL"] == "0":
		for _, f := range files {
			// systemd puts each before those that it has.
			m.kept = slices.Insert(m.kept, 0, keptFile{values["FDNAME"], f})
		}
		return
	case values["FDSTOREREMOVE"] == "1":
		m.kept = slices.DeleteFunc(m.kept, func(k keptFile) bool {
			if k.name == values["FDNAME"] {
				_ = k.file.Close()
				return true
			}
			return false
		})
	}
	for _, f := range files {
		_ = f.Close()
	}
}

// StopService forgets what is kept, as systemd does when a service is stopped.
func (m *Manager) StopService() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		_ = k.file.Close()
	}
	m.kept = nil
}

// Kept returns the names of what is kept, one for each file.
func (m *Manager) Kept() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.kept))
	for _, k := range m.kept {
		names = append(names, k.name)
	}
	return names
}

// Heard returns how often the manager was told that: READY=1, STOPPING=1.
func (m *Manager) Heard(what string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.heard {
		if line == what {
			n++
		}
	}
	return n
}

// command is a program started by the manager, with the files that it keeps. A
// shell becomes the program, since LISTEN_PID has to be known before it is.
func (m *Manager) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	m.mu.Lock()
	defer m.mu.Unlock()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, program}, args...)...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "SERIALSPAN_CONFIG=")
	var names []string
	for _, k := range m.kept {
		cmd.ExtraFiles = append(cmd.ExtraFiles, k.file)
		names = append(names, k.name)
	}
	if len(names) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return cmd
}

// StartManagedAgent is StartAgent where the test runs, by a service manager.
func StartManagedAgent(tb testing.TB, m ServiceManager, name, secretFile string, more Settings) *Agent {
	tb.Helper()
	return startAgent(tb, &Agent{Name: name, tb: tb, manager: m, program: Program(tb)}, secretFile, more)
}

// Restart stops the agent as `systemctl restart` does and starts it again; it
// returns when the agent has said that it is ready. It needs a ServiceManager.
func (a *Agent) Restart() {
	a.tb.Helper()
	a.manager.restart(a)
}

// KillAndRestart is Restart after a crash.
func (a *Agent) KillAndRestart() {
	a.tb.Helper()
	a.manager.killAndRestart(a)
}

func (m *Manager) start(a *Agent) {
	m.tb.Helper()
	ready := m.Heard("READY=1")
	a.run(m.command(context.Background(), a.program, a.arguments()...))
	WaitFor(m.tb, a.Name+" to be ready", 10*time.Second, func() error {
		if a.Exited() {
			m.tb.Fatalf("agent %s ended: %v", a.Name, a.err)
		}
		if m.Heard("READY=1") == ready {
			return errors.New("it has not said so")
		}
		return nil
	})
}

func (m *Manager) restart(a *Agent) {
	m.tb.Helper()
	a.Stop()
	m.start(a)
}

func (m *Manager) killAndRestart(a *Agent) {
	m.tb.Helper()
	a.Kill()
	m.start(a)
}
