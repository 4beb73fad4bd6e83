package rawio

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiter is an epoll instance that has one descriptor and is itself one of the
// runtime's poller: an epoll instance is readable when it has events. The
// kernel passes on only those that were asked for, and hang-up and error.
type waiter struct {
	epoll *os.File
	raw   syscall.RawConn

	// Of the one who waits. The closure is made once: waiting allocates nothing.
	file    *File
	try     func(fd uintptr) bool
	closed  bool
	attempt func(epoll uintptr) bool
}

func newWaiter(fd int, events uint32) (*waiter, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event := unix.EpollEvent{Events: events}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		_ = unix.Close(epoll)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	// That is how os.NewFile knows that it can be polled.
	if err := unix.SetNonblock(epoll, true); err != nil {
		_ = unix.Close(epoll)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &waiter{epoll: os.NewFile(uintptr(epoll), "epoll")}
	if w.raw, err = w.epoll.SyscallConn(); err != nil {
		w.close()
		return nil, err
	}
	w.attempt = func(uintptr) (done bool) {
		done, w.closed = w.file.once(w.try)
		return done
	}
	return w, nil
}

// arm changes what is waited for. What is there already counts.
func (w *waiter) arm(fd int, events uint32) error {
	event := unix.EpollEvent{Events: events}
	var err error
	if closed := w.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, fd, &event) }); closed != nil {
		return ErrClosed
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (w *waiter) deadline(t time.Time) error {
	if err := w.epoll.SetReadDeadline(t); err != nil {
		return ErrClosed
	}
	return nil
}

func (w *waiter) close() { _ = w.epoll.Close() }
