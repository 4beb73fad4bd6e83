package lab

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TTY is a serial device as an agent sees one: the slave of a PTY. The test is
// the other end: it reads what was written to the device and writes what the
// device says. Reads and writes are safe for concurrent use.
type TTY struct {
	// Path is the device, "/dev/pts/N", the same until the test ends.
	Path string

	master *os.File
	slave  *os.File // keeps the master readable while nobody has the device open
}

// NewTTY makes a raw tty.
func NewTTY(tb testing.TB) *TTY {
	tb.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		tb.Fatalf("make a PTY: %v", err)
	}
	tb.Cleanup(func() { _ = master.Close() })
	var number int
	err = control(master, func(fd int) (err error) {
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	if err != nil {
		tb.Fatalf("make a PTY: %v", err)
	}
	t := &TTY{Path: fmt.Sprintf("/dev/pts/%d", number), master: master}
	t.slave = OpenTTY(tb, t.Path)
	return t
}

// Read reads what was written to the device; it blocks while there is nothing
// and ends with os.ErrClosed when the test ends.
func (t *TTY) Read(p []byte) (int, error) { return t.master.Read(p) }

// Write lets the device say p; it blocks while nobody reads the device and its
// buffer is full.
func (t *TTY) Write(p []byte) (int, error) { return t.master.Write(p) }

// SetDeadline bounds Read and Write, as of an os.File.
func (t *TTY) SetDeadline(when time.Time) error { return t.master.SetDeadline(when) }

// OpenTTY opens the tty at path as an application does, makes it raw without
// echo and closes it when the test ends, if the test has not. Deadlines work.
func OpenTTY(tb testing.TB, path string) *os.File {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		tb.Fatalf("open tty: %v", err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	err = control(f, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		// cfmakeraw(3); VMIN 1: a read returns as soon as there is a byte.
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
	if err != nil {
		tb.Fatalf("make %s raw: %v", path, err)
	}
	return f
}

func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = call(int(fd)) }); err != nil {
		return err
	}
	return inner
}
