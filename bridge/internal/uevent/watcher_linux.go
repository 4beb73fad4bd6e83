package uevent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group of the kernel's own messages.
const kernelGroup = 1

// receiveBuffer is room for a docking station's worth of events, in bytes. More
// than that at once is told as a change like any other.
const receiveBuffer = 256 << 10

// maxMessage is the kernel's UEVENT_BUFFER_SIZE of 2048 and the header.
const maxMessage = 4096

// Config configures a Watcher. Its zero value works.
type Config struct {
	Logger *slog.Logger // nil: discard
}

// Watcher tells when serial ports may have come or gone. Its methods are safe
// for concurrent use.
type Watcher struct {
	log     *slog.Logger
	changes chan struct{}
}

// New returns a Watcher that hears nothing until Run.
func New(c Config) *Watcher {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{log: c.Logger, changes: make(chan struct{}, 1)}
}

// Changes returns a channel that receives after something changed, once for
// changes in quick succession, and once when Run has begun to listen: what
// happened before was not heard. It also receives when the kernel says that
// events were lost. It is one channel for all callers and never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Run listens until ctx is done, and returns nil then. It fails if the kernel
// gives no socket or the socket breaks.
func (w *Watcher) Run(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("listen to uevents: %w", err)
	}
	// Smaller is still right, only more often lost.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("listen to uevents: %w", err)
	}
	return w.listen(ctx, os.NewFile(uintptr(fd), "uevent"))
}

// listen reads messages from socket, which is non-blocking, and closes it.
func (w *Watcher) listen(ctx context.Context, socket *os.File) error {
	defer func() { _ = socket.Close() }()
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })()
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("listen to uevents: %w", err)
	}
	w.changed()
	buf := make([]byte, maxMessage)
	for {
		var n int
		var from unix.Sockaddr
		var failure error
		err := raw.Read(func(fd uintptr) bool {
			for {
				n, from, failure = unix.Recvfrom(int(fd), buf, 0)
				if !errors.Is(failure, unix.EINTR) {
					return !errors.Is(failure, unix.EAGAIN)
				}
			}
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("listen to uevents: %w", err)
		case errors.Is(failure, unix.ENOBUFS):
			w.log.Debug("uevents were lost, looking again")
			w.changed()
		case failure != nil:
			return fmt.Errorf("listen to uevents: %w", failure)
		default:
			w.heard(buf[:n], from)
		}
	}
}

func (w *Watcher) heard(message []byte, from unix.Sockaddr) {
	if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid != 0 {
		return // of a program; the kernel is 0
	}
	e, err := Parse(message)
	if err != nil {
		w.log.Debug("uevent not understood", "err", err)
		return
	}
	if e.IsTTY() {
		w.log.Debug("uevent", "action", e.Action, "path", e.Path)
		w.changed()
	}
}

func (w *Watcher) changed() {
	select {
	case w.changes <- struct{}{}:
	default:
	}
}
