package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what sun_path of unix(7) holds besides its final zero.
const maxSocketPath = 107

// dialTimeout bounds the question whether another agent still answers.
const dialTimeout = time.Second

// socketListener is the listener, and what to remove when it ends.
type socketListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of the socket we made
}

// listen makes the control socket. A socket that nobody answers on is
// replaced, one with an agent behind it refused, and so is anything else.
func listen(path string) (*socketListener, error) {
	fail := func(err error) (*socketListener, error) {
		return nil, fmt.Errorf("make control socket %q: %w", path, err)
	}
	// The socket is made under another name and renamed when its mode is set.
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temporary) > maxSocketPath {
		return fail(fmt.Errorf("%d bytes with a suffix, the kernel takes %d; set control.socket to a shorter path", len(temporary), maxSocketPath))
	}
	if err := makeSocketDir(filepath.Dir(path)); err != nil {
		return fail(err)
	}
	if err := clearStale(path); err != nil {
		return fail(err)
	}
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	listener.SetUnlinkOnClose(false)
	info, err := os.Lstat(temporary)
	if err == nil {
		err = os.Chmod(temporary, 0o660)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		listener.Close()
		os.Remove(temporary)
		return fail(err)
	}
	return &socketListener{UnixListener: listener, path: path, info: info}, nil
}

// remove removes the socket unless another agent has replaced it.
func (l *socketListener) remove() {
	l.Close()
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		os.Remove(l.path)
	}
}

// makeSocketDir makes the directory: for everybody to enter if root's, else
// for the user alone. Below /tmp another user could have made it before us.
func makeSocketDir(dir string) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if owner := ownerOf(info); owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("directory %s belongs to user %d; set control.socket to a path in a directory of yours", dir, owner)
	}
	return nil
}

func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("something else is there; remove it, or set control.socket to another path")
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		conn.Close()
		return errors.New("another agent answers there; stop it, or set control.socket to another path")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // the rename replaces it
}

func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

type callerKey struct{}

// withCaller keeps the user ID of the process at the other end (SO_PEERCRED)
// in the context of its requests.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	uid := -1
	if unixConn, ok := conn.(*net.UnixConn); ok {
		if rawConn, err := unixConn.SyscallConn(); err == nil {
			rawConn.Control(func(fd uintptr) {
				if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					uid = int(credentials.Uid)
				}
			})
		}
	}
	return context.WithValue(ctx, callerKey{}, uid)
}

// callerOf returns the caller's user ID, -1 if it is not known.
func callerOf(ctx context.Context) int {
	if uid, ok := ctx.Value(callerKey{}).(int); ok {
		return uid
	}
	return -1
}
