package port

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// usedByOther returns ErrBusy and a name if another process has the tty open.
// Linux raises DTR and RTS at every open, also at one that finds only then that
// the port is taken: whoever uses it would have its board reset. So this looks
// before, and opens nothing. A PTY has no such lines and is often open on
// purpose. A process that cannot be seen, of another PID namespace or user, is
// met by flock and TIOCEXCL.
func usedByOther(path string) error {
	var tty unix.Stat_t
	if unix.Stat(path, &tty) != nil || tty.Mode&unix.S_IFMT != unix.S_IFCHR {
		return nil
	}
	number := uint64(tty.Rdev) // 32 bits on some machines
	in, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d", unix.Major(number), unix.Minor(number)))
	if err != nil || !strings.Contains(in, "/tty/") || strings.Contains(in, "/virtual/") {
		return nil // a PTY is not in sysfs
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", p.Name())
		if !hasOpen(filepath.Join(dir, "fd"), number) {
			continue
		}
		return fmt.Errorf("%w: %s, process %d", ErrBusy, attribute(dir, "comm"), pid)
	}
	return nil
}

// hasOpen reports whether one of the descriptors in a folder of /proc is of the
// device with this number. Only those of /dev are looked at more closely: a
// file on a network may not answer.
func hasOpen(dir string, number uint64) bool {
	descriptors, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = descriptors.Close() }()
	names, _ := descriptors.Readdirnames(-1)
	for _, n := range names {
		link := filepath.Join(dir, n)
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, "/dev/") {
			continue
		}
		var open unix.Stat_t
		if unix.Stat(link, &open) == nil && open.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(open.Rdev) == number {
			return true
		}
	}
	return false
}
