package control

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// maxSocketPath is what sun_path of unix(7) holds besides its final zero.
const maxSocketPath = 107

// defaultMode is for the agent's user and group.
const defaultMode fs.FileMode = 0o660

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
func listen(path string, mode fs.FileMode, group string) (*socketListener, error) {
	fail := func(err error) (*socketListener, error) {
		return nil, fmt.Errorf("make control socket %q: %w", path, err)
	}
	// The socket is made under another name and renamed when its mode is set.
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temporary) > maxSocketPath {
		return fail(fmt.Errorf("%d bytes with a suffix, the kernel takes %d; set control.socket to a shorter path", len(temporary), maxSocketPath))
	}
	gid, err := groupID(group)
	if err != nil {
		return fail(err)
	}
	if err := makeSocketDir(filepath.Dir(path), gid); err != nil {
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
	if err == nil && gid >= 0 {
		if err = os.Chown(temporary, -1, gid); err != nil {
			err = fmt.Errorf("%w; set control.group to a group of the agent's user", err)
		}
	}
	if err == nil {
		err = os.Chmod(temporary, cmp.Or(mode, defaultMode))
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

// groupID returns the number of control.group, -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(group); err == nil && n >= 0 {
		return n, nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("group %q is not known; create it, or set control.group to another", group)
	}
	return strconv.Atoi(found.Gid)
}

// makeSocketDir makes the directory: for everybody to enter if root's, else
// for the user alone and the group gid. Below /tmp another user could have
// made it before us.
func makeSocketDir(dir string, gid int) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	_, err := os.Stat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	if made && mode == 0o700 && gid >= 0 {
		if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, 0o710)); err != nil {
			return fmt.Errorf("%w; set control.group to a group of the agent's user", err)
		}
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
