// Package rawio reads and writes descriptors that never block, as the Go
// runtime's own poller asks for events: by system calls that the scheduler is
// not told of, and woken only by what is waited for. It knows nothing of what
// it carries: the mesh has its UDP socket on it, the bridge its terminals.
//
// An ordinary system call tells the scheduler, so that another thread can go on
// if it lasts. After a moment of idleness that also wakes the runtime's monitor
// thread, which then runs every 20 µs for a while. A byte that comes alone, as
// serial bytes do, pays for it on every hop: half of the CPU time of a round
// trip went there. A call on a descriptor in non-blocking mode returns within
// microseconds, so there is nothing to tell.
package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2) on a descriptor with O_NONBLOCK set. It returns EAGAIN where
// nothing waits, and never EINTR.
func Read(fd uintptr, b []byte) (int, error) { return call(unix.SYS_READ, fd, b) }

// Write is write(2) on a descriptor with O_NONBLOCK set. It returns EAGAIN where
// there is no room, and never EINTR.
func Write(fd uintptr, b []byte) (int, error) { return call(unix.SYS_WRITE, fd, b) }

func call(trap, fd uintptr, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, unix.EAGAIN // the constant: no allocation
		default:
			return 0, errno
		}
	}
}
