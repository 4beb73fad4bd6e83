package pathwatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Of says what Watch tells of.
type Of int

const (
	// Existence: which file it is, and who may open it. What is written to it is
	// not told: to a tty that would be each byte.
	Existence Of = iota
	// Contents: what is in it, too.
	Contents
)

// What the kernel is asked to tell of a directory on the way, where others may
// write without end, and of that at a path's end whose contents matter.
const (
	ofDirectory = ofNames | unix.IN_ONLYDIR
	ofFile      = ofNames | unix.IN_CLOSE_WRITE | unix.IN_MODIFY
	ofNames     = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
)

// Watch calls changed each time that one of the absolute paths may have changed,
// and once when it has begun to watch, until ctx is done; then it returns nil.
// The paths need not exist. It fails where the kernel gives no inotify instance,
// where there are too many watches (fs.inotify.max_user_watches), where a
// directory may not be read, or if the instance breaks. Of Contents a directory
// that may not be read is left out instead as long as what is looked up in it is
// there, and tells of itself.
func Watch(ctx context.Context, of Of, changed func(), paths ...string) error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch %q: %w", paths, err)
	}
	w := &watch{of: of, paths: paths, inotify: os.NewFile(uintptr(fd), "inotify")}
	defer func() { _ = w.inotify.Close() }()
	defer context.AfterFunc(ctx, func() { _ = w.inotify.Close() })()
	for err == nil {
		if err = w.follow(); err == nil {
			changed()
			err = w.wait()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type watch struct {
	of      Of
	paths   []string
	inotify *os.File
	steps   map[int]map[string]bool // by watch descriptor: names that matter
}

// follow watches the steps that the paths have now.
func (w *watch) follow() error {
	raw, err := w.inotify.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = w.followOn(int(fd)) })
	return errors.Join(err, failed)
}

func (w *watch) followOn(fd int) error {
	// Until nothing has changed while the watches were set.
	for now := trails(w.paths); ; {
		steps, err := w.set(fd, now)
		if err != nil {
			return err
		}
		for wd := range w.steps {
			if steps[wd] == nil {
				_, _ = unix.InotifyRmWatch(fd, uint32(wd)) // an error: it went with its directory
			}
		}
		w.steps = steps
		before := now
		if now = trails(w.paths); maps.EqualFunc(now, before, maps.Equal) {
			return nil
		}
	}
}

// set watches what the paths lead through, as trails tells it.
func (w *watch) set(fd int, through map[string]map[string]bool) (steps map[int]map[string]bool, err error) {
	steps = map[int]map[string]bool{}
	unread := map[string]error{}
	var missing []string
	for place, names := range through {
		mask := uint32(ofDirectory)
		switch {
		case names[end] && w.of == Contents:
			mask = ofFile
		case names[end] && len(names) == 1:
			continue // the directory above tells of its existence
		}
		wd, err := unix.InotifyAddWatch(fd, place, mask)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			missing = append(missing, place)
			continue // the directory above will tell
		case w.of == Contents && errors.Is(err, unix.EACCES):
			unread[place] = fmt.Errorf("watch %q: %w", place, err)
			continue
		case err != nil:
			return nil, fmt.Errorf("watch %q: %w", place, err)
		}
		if steps[wd] == nil {
			steps[wd] = map[string]bool{}
		}
		maps.Copy(steps[wd], names)
	}
	for _, place := range missing {
		if err := unread[filepath.Dir(place)]; err != nil {
			return nil, err // nothing would tell when it comes back
		}
	}
	return steps, nil
}

// wait blocks until an event matters.
func (w *watch) wait() error {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.inotify.Read(buf)
		if err != nil {
			return fmt.Errorf("watch %q: %w", w.paths, err)
		}
		if w.matters(buf[:n]) {
			return nil
		}
	}
}

// matters looks through the events of one read: struct inotify_event is
// descriptor, mask, cookie, length of the name, name with zeros.
func (w *watch) matters(events []byte) bool {
	const header = unix.SizeofInotifyEvent
	for len(events) >= header {
		wd := int(int32(binary.NativeEndian.Uint32(events)))
		mask := binary.NativeEndian.Uint32(events[4:])
		end := header + int(binary.NativeEndian.Uint32(events[12:]))
		if end > len(events) {
			return true
		}
		name := strings.TrimRight(string(events[header:end]), "\x00")
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_UNMOUNT|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 || w.steps[wd][name] {
			return true
		}
		events = events[end:]
	}
	return false
}
