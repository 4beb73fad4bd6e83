package pty

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/mesh/rawio"
)

// ErrClosed is what every method gives after Close. It unwraps to net.ErrClosed.
var ErrClosed = fmt.Errorf("pseudoterminal closed: %w", net.ErrClosed)

// ErrNotOpen is what Write and TryWrite give while no app has the
// pseudoterminal open: the kernel would keep the bytes for the next one.
var ErrNotOpen = errors.New("no app has the pseudoterminal open")

const ptsDir = "/dev/pts/"

// Config says what to make. The zero value makes a pseudoterminal for our own
// user, without a link.
type Config struct {
	Link string        // path of a symbolic link to make; its directory must exist; empty: none
	Mode fs.FileMode   // permission bits of the node; 0: 0600, or 0660 with a GID
	UID  int           // owner of the node; 0: the user of this process
	GID  int           // group of the node; 0: as the mount options of devpts say
	Line line.Settings // settings that apps find, and the framing for all Events; zero: line.Default
}

// PTY is a pseudoterminal. One goroutine may Read; the other methods are safe
// for concurrent use. Whoever opened it closes it.
type PTY struct {
	path, link string
	byPath     bool // see findNode
	framing    line.Settings
	master     *rawio.File
	watch      *watch
	closeOnce  sync.Once
	closeErr   error

	opened atomic.Bool // changed with mu held

	// One write system call, under mu so that none starts after opened went
	// false. The closures are made once: a write allocates nothing.
	mu       sync.Mutex
	tryBytes []byte
	tryN     int
	tryErr   error
	tryOnce  func(fd uintptr)

	// Write, one at a time.
	writeMu   sync.Mutex
	writeRest []byte
	writeN    int
	writeErr  error
	writePark func(fd uintptr) bool

	// Owned by the goroutine that calls Read.
	readBytes []byte
	readN     int
	readErr   error
	readPark  func(fd uintptr) bool
	last      Event  // what was last told of the settings
	held      []byte // read already, written before the last of dues
	dues      []due  // changes of settings to tell
	attached  bool   // the reader's view of opened
	fresh     bool   // no bytes were read since the first open
}

// Open makes a pseudoterminal: raw, no echo, in packet mode with EXTPROC, and
// the link last, when all is ready. Its errors may wrap ErrLinkTaken.
func Open(c Config) (*PTY, error) {
	p, err := newPTY(&c)
	if err != nil {
		return nil, fmt.Errorf("open pseudoterminal: %w", err)
	}
	if err := checkLink(c.Link); err != nil {
		return nil, err
	}
	if err := p.openMaster(); err != nil {
		return nil, fmt.Errorf("open pseudoterminal: %w", err)
	}
	if err := p.prepare(c); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("open pseudoterminal: %w", err)
	}
	if err := makeLink(c.Link, p.path); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

func (p *PTY) openMaster() error {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open /dev/ptmx: %w", err)
	}
	p.path, err = nodeOf(fd)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("unlock slave: %w", err)
	}
	p.master, err = rawio.NewFile(fd, "/dev/ptmx")
	return err
}

// prepare sets everything but the link.
func (p *PTY) prepare(c Config) error {
	err := p.control(func(fd int) error {
		// Opened and closed once, the slave makes the master say POLLHUP: from
		// here on that means "no app has it open".
		peer, err := p.openPeer(fd)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(peer) }()
		if err := checkNode(peer, p.path); err != nil {
			return err
		}
		if err := setInitial(fd, c.Line); err != nil {
			return fmt.Errorf("set terminal: %w", err)
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCPKT, 1)
	})
	if err != nil {
		return err
	}
	if err := setNode(p.path, c); err != nil {
		return err
	}
	if err := p.control(func(fd int) error { return p.snapshot(fd, &p.last) }); err != nil {
		return fmt.Errorf("read terminal: %w", err)
	}
	return p.openWatch()
}

func (p *PTY) openWatch() (err error) {
	p.watch, err = openWatch(p.path)
	return err
}

// checkNode makes sure that path is the slave of our master and not one of
// another devpts with the same number, as in some containers.
func checkNode(peer int, path string) error {
	var ours, found unix.Stat_t
	if err := unix.Fstat(peer, &ours); err != nil {
		return fmt.Errorf("stat slave: %w", err)
	}
	if err := unix.Stat(path, &found); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	if ours.Dev != found.Dev || ours.Ino != found.Ino {
		return fmt.Errorf("stat %q: it belongs to another devpts than /dev/ptmx does", path)
	}
	return nil
}

func setNode(path string, c Config) error {
	mode := c.Mode.Perm()
	switch {
	case mode != 0:
	case c.GID != 0:
		mode = 0o660
	default:
		mode = 0o600
	}
	if c.UID != 0 || c.GID != 0 {
		uid, gid := -1, -1
		if c.UID != 0 {
			uid = c.UID
		}
		if c.GID != 0 {
			gid = c.GID
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return fmt.Errorf("give terminal to user %d, group %d: %w", uid, gid, err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode of terminal: %w", err)
	}
	return nil
}

// Path returns where apps open the pseudoterminal: the link if there is one,
// else the node. It stays the same until Close.
func (p *PTY) Path() string {
	if p.link != "" {
		return p.link
	}
	return p.path
}

// Node returns the path of the node itself, /dev/pts/N.
func (p *PTY) Node() string { return p.path }

// Opened tells whether an app has it open, as of the last Event read.
func (p *PTY) Opened() bool { return p.opened.Load() }

// TryWrite hands the bytes to the app by one system call that does not block.
// It returns how many were taken; fewer than len(b) with a nil error means that
// the app's input queue (about 20 KiB) is full. Errors: ErrNotOpen, ErrClosed.
func (p *PTY) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.opened.Load() {
		return 0, p.notOpen()
	}
	p.tryBytes, p.tryN, p.tryErr = b, 0, nil
	err := p.master.Control(p.tryOnce)
	p.tryBytes = nil
	switch {
	case err != nil:
		return 0, ErrClosed
	case p.tryErr == unix.EAGAIN:
		return 0, nil
	case p.tryErr != nil:
		return p.tryN, fmt.Errorf("write pseudoterminal: %w", p.tryErr)
	}
	return p.tryN, nil
}

// Write hands all bytes to the app and blocks while its input queue is full. It
// is unblocked by Close (ErrClosed), by the write deadline
// (os.ErrDeadlineExceeded) and by the app's last close (ErrNotOpen), which is
// noticed as long as somebody calls Read.
func (p *PTY) Write(b []byte) (int, error) {
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	defer func() { p.writeRest = nil }()
	total := 0
	for total < len(b) {
		p.writeRest, p.writeN, p.writeErr = b[total:], 0, nil
		err := p.master.Write(p.writePark)
		total += p.writeN
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return total, err
		case err != nil:
			return total, ErrClosed
		case errors.Is(p.writeErr, ErrNotOpen):
			return total, p.notOpen()
		case p.writeErr != nil:
			return total, fmt.Errorf("write pseudoterminal: %w", p.writeErr)
		}
	}
	return total, nil
}

// writeAttempt is one try of Write; false parks it until the master is writable.
func (p *PTY) writeAttempt(fd uintptr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.opened.Load() {
		p.writeErr = ErrNotOpen
		return true
	}
	p.writeN, p.writeErr = rawio.Write(fd, p.writeRest)
	return p.writeErr != unix.EAGAIN
}

// notOpen tells closed from not opened.
func (p *PTY) notOpen() error {
	if p.master.Control(func(uintptr) {}) != nil {
		return ErrClosed
	}
	return ErrNotOpen
}

// SetWriteDeadline sets when a blocked Write gives up; the zero time is never.
func (p *PTY) SetWriteDeadline(t time.Time) error {
	if err := p.master.SetWriteDeadline(t); err != nil {
		return ErrClosed
	}
	return nil
}

// Close removes the link if it is still ours and hangs the terminal up: apps
// that have it open read end of file. Later calls do nothing.
func (p *PTY) Close() error {
	p.closeOnce.Do(func() {
		p.closeErr = removeLink(p.link, p.path)
		if p.watch != nil {
			p.closeErr = errors.Join(p.closeErr, p.watch.Close())
		}
		p.closeErr = errors.Join(p.closeErr, p.master.Close())
		p.mu.Lock()
		p.opened.Store(false)
		p.mu.Unlock()
	})
	return p.closeErr
}

// control runs f with the master's descriptor, which cannot be closed or
// reused meanwhile.
func (p *PTY) control(f func(fd int) error) error {
	var err error
	if p.master.Control(func(fd uintptr) { err = f(int(fd)) }) != nil {
		return ErrClosed
	}
	return err
}
