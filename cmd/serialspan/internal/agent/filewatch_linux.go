package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fileWatch tells that a file may have changed: written, replaced by a rename,
// or reached through a symbolic link that was swapped, at any step of the path
// (Kubernetes swaps a directory's link above the file). It watches the
// directory of every step by inotify(7).
//
// A goroutine of the owner's runs read; close ends it.
type fileWatch struct {
	path    string
	inotify *os.File
	steps   map[int]map[string]bool // by watch descriptor: names that matter
}

const fileWatchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CLOSE_WRITE |
	unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// newFileWatch watches an absolute path, which need not exist.
func newFileWatch(path string) (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch %q: %w", path, err)
	}
	w := &fileWatch{path: path, inotify: os.NewFile(uintptr(fd), "inotify")}
	w.follow()
	return w, nil
}

// follow watches the steps that the path has now.
func (w *fileWatch) follow() {
	steps := map[int]map[string]bool{}
	w.control(func(fd int) {
		for dir, names := range trail(w.path) {
			// A directory that is not there will be told by the one above.
			if wd, err := unix.InotifyAddWatch(fd, dir, fileWatchMask); err == nil {
				if steps[wd] == nil {
					steps[wd] = map[string]bool{}
				}
				for name := range names {
					steps[wd][name] = true
				}
			}
		}
		for wd := range w.steps {
			if steps[wd] == nil {
				unix.InotifyRmWatch(fd, uint32(wd)) // an error: it went with its directory
			}
		}
	})
	w.steps = steps
}

func (w *fileWatch) control(do func(fd int)) {
	if raw, err := w.inotify.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// wait blocks until the file may have changed and follows its path anew. It
// fails when the watch is closed.
func (w *fileWatch) wait() error {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.inotify.Read(buf)
		if err != nil {
			return err
		}
		if w.matters(buf[:n]) {
			w.follow()
			return nil
		}
	}
}

// matters looks through the events of one read: struct inotify_event is
// descriptor, mask, cookie, length of the name, name with zeros.
func (w *fileWatch) matters(events []byte) bool {
	const header = unix.SizeofInotifyEvent
	for len(events) >= header {
		wd := int(int32(binary.NativeEndian.Uint32(events)))
		mask := binary.NativeEndian.Uint32(events[4:])
		end := header + int(binary.NativeEndian.Uint32(events[12:]))
		if end > len(events) {
			return true
		}
		name := strings.TrimRight(string(events[header:end]), "\x00")
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 || w.steps[wd][name] {
			return true
		}
		events = events[end:]
	}
	return false
}

func (w *fileWatch) close() { w.inotify.Close() }

// mostLinks bounds a loop of symbolic links, as the kernel does.
const mostLinks = 40

// trail returns the directories that the kernel goes through for an absolute
// path, each with the names that it looks up there.
func trail(path string) map[string]map[string]bool {
	steps := map[string]map[string]bool{}
	dir, left, links := "/", strings.Split(path, "/"), 0
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		if steps[dir] == nil {
			steps[dir] = map[string]bool{}
		}
		steps[dir][name] = true
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			dir = filepath.Join(dir, name)
			continue
		}
		if links++; links > mostLinks {
			break
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return steps
}
