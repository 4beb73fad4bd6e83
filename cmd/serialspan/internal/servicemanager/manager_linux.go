// Package servicemanager speaks with the service manager that started the
// agent, if it is one that speaks systemd's protocol: it is told that the agent
// is ready and that it stops, and it keeps open files over a restart.
//
//	agent ── READY=1 ─────────────────────────────▶ manager
//	agent ── FDSTORE=1 FDNAME=n FDPOLL=0 + files ─▶ manager    the manager has duplicates
//	agent ── FDSTOREREMOVE=1 FDNAME=n ────────────▶ manager    all of that name are closed
//	agent ── STOPPING=1 ──────────────────────────▶ manager
//	next agent ◀── descriptors 3, 4, … and LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID
//
// A message is one datagram to the socket that NOTIFY_SOCKET names; files travel
// with it (SCM_RIGHTS). Nothing comes back: whether files are kept shows in the
// next start. systemd keeps up to FileDescriptorStoreMax of them, and forgets
// them when the service is stopped; a restart is no stop. FDPOLL=0 says that
// they shall be kept even if they poll as hung up, as the master of a
// pseudoterminal does while no application has it open.
//
// The package starts no goroutines. References: sd_notify(3), sd_listen_fds(3),
// systemd.service(5).
package servicemanager

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstFD = 3 // sd_listen_fds(3), SD_LISTEN_FDS_START
	// maxName bounds FDNAME (sd_notify(3)).
	maxName = 255
	// sendTimeout bounds one message: a manager that is busy with another unit
	// leaves its socket's queue full for a while.
	sendTimeout = 5 * time.Second
	// maxFDs bounds LISTEN_FDS: no unit has more.
	maxFDs = 1 << 16
)

// ErrName is wrapped when a name cannot be one of kept files.
var ErrName = errors.New("want 1 to 255 printable ASCII characters and no colon")

// Manager is the service manager. It is safe for concurrent use.
type Manager struct {
	socket string // empty: nobody listens

	mu        sync.Mutex // orders messages
	inherited map[string][]*os.File
}

// FromEnvironment finds the service manager that started this process, and
// takes over the files that it handed on. It removes from the environment what
// is meant for this process only, so that no child acts on it; it is to be
// called once. A process that no manager
// started has a Manager that keeps nothing. The error says what of the
// environment cannot be used; the Manager can be used all the same.
func FromEnvironment() (*Manager, error) {
	m := &Manager{socket: os.Getenv("NOTIFY_SOCKET"), inherited: map[string][]*os.File{}}
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, key := range []string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(key) // fails for malformed names only
	}
	var err error
	if m.socket != "" && m.socket[0] != '/' && m.socket[0] != '@' {
		err = fmt.Errorf("find service manager: NOTIFY_SOCKET=%q is no path and no abstract name", m.socket)
		m.socket = ""
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return m, err // for another process, or for none
	}
	n, bad := strconv.Atoi(count)
	if bad != nil || n < 0 || n > maxFDs {
		return m, errors.Join(err, fmt.Errorf("take over files: LISTEN_FDS=%q is no count", count))
	}
	labels := strings.Split(names, ":")
	for i := range n {
		name := "" // sd_listen_fds_with_names(3) says "unknown"
		if i < len(labels) {
			name = labels[i]
		}
		unix.CloseOnExec(firstFD + i)
		m.inherited[name] = append(m.inherited[name], os.NewFile(uintptr(firstFD+i), name))
	}
	return m, err
}

// Listens reports whether there is a service manager to be told anything.
func (m *Manager) Listens() bool { return m.socket != "" }

// Ready tells that the agent does its work.
func (m *Manager) Ready() error { return m.send("READY=1\n", nil) }

// Stopping tells that the agent ends.
func (m *Manager) Stopping() error { return m.send("STOPPING=1\n", nil) }

// Names returns what was handed on and not taken, sorted.
func (m *Manager) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.inherited))
	for name := range m.inherited {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Take returns the files that were handed on under a name, in no order. The
// caller closes them; the manager keeps its own. nil: there are none, or they
// were taken.
func (m *Manager) Take(name string) []*os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := m.inherited[name]
	delete(m.inherited, name)
	return files
}

// Keep makes the manager keep files under a name, besides what it has there.
// ErrName: it would not take the name.
func (m *Manager) Keep(name string, files ...syscall.Conn) error {
	if !validName(name) {
		return fmt.Errorf("keep files as %q: %w", name, ErrName)
	}
	fds, done, err := duplicates(files)
	defer done()
	if err == nil {
		err = m.send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0\n", unix.UnixRights(fds...))
	}
	if err != nil {
		return fmt.Errorf("keep files as %q: %w", name, err)
	}
	return nil
}

// Drop makes the manager close all files under a name, and closes those that
// were handed on and not taken.
func (m *Manager) Drop(name string) error {
	if !validName(name) {
		return fmt.Errorf("drop files kept as %q: %w", name, ErrName)
	}
	for _, f := range m.Take(name) {
		_ = f.Close()
	}
	if err := m.send("FDSTOREREMOVE=1\nFDNAME="+name+"\n", nil); err != nil {
		return fmt.Errorf("drop files kept as %q: %w", name, err)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for _, c := range []byte(name) {
		if c < ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

// duplicates returns descriptors that stay open until done, whatever becomes of
// the files.
func duplicates(files []syscall.Conn) (fds []int, done func(), err error) {
	done = func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return fds, done, err
		}
		inner := raw.Control(func(fd uintptr) {
			var duplicate int
			if duplicate, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
				fds = append(fds, duplicate)
			}
		})
		if err = errors.Join(inner, err); err != nil {
			return fds, done, err
		}
	}
	return fds, done, nil
}

// send sends one datagram. Without a manager it does nothing.
func (m *Manager) send(text string, rights []byte) error {
	if m.socket == "" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tell service manager: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	patience := unix.NsecToTimeval(sendTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return fmt.Errorf("tell service manager: %w", err)
	}
	to := &unix.SockaddrUnix{Name: m.socket} // "@" first: abstract
	for {
		err := unix.Sendmsg(fd, []byte(text), rights, to, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("tell service manager: send to %q: %w", m.socket, err)
		}
		return nil
	}
}
