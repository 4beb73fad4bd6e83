package rawio

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed is what every method gives after Close. It unwraps to net.ErrClosed.
var ErrClosed = fmt.Errorf("descriptor closed: %w", net.ErrClosed)

// File is a descriptor in non-blocking mode whose readers wait for something to
// read and for nothing else.
//
// The runtime's poller asks for room to write as well, on everything, and so an
// agent that waits for a datagram was woken a second time when the one it had
// sent was taken by the other side, and a third time when the app had read its
// PTY. So a File has an epoll instance of its own between itself and the
// runtime's, and a second one for writers, made when the first has to wait.
//
// It is a syscall.RawConn. One goroutine may Read and one may Write; Control is
// for anyone. Whoever made it closes it.
type File struct {
	fd   uintptr
	name string
	in   *waiter

	life   sync.RWMutex // held for reading during system calls on fd
	closed bool

	mu  sync.Mutex // guards what follows
	out *waiter    // nil until a writer had to wait
	due time.Time  // deadline of writers
}

var _ syscall.RawConn = (*File)(nil)

// NewFile takes a descriptor, which is the File's then, and sets it to
// non-blocking mode. The name is for errors.
func NewFile(fd int, name string) (*File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set %s to non-blocking mode: %w", name, err)
	}
	in, err := newWaiter(fd, unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	return &File{fd: uintptr(fd), name: name, in: in}, nil
}

// Control runs f with the descriptor, which cannot be closed or reused
// meanwhile: Close waits for it. Errors: ErrClosed.
func (f *File) Control(do func(fd uintptr)) error {
	f.life.RLock()
	defer f.life.RUnlock()
	if f.closed {
		return ErrClosed
	}
	do(f.fd)
	return nil
}

// Read calls try until it returns true, at once and then whenever there is
// something to read. Errors: ErrClosed, os.ErrDeadlineExceeded.
func (f *File) Read(try func(fd uintptr) bool) error { return f.wait(f.in, try) }

// Write calls try until it returns true, at once and then whenever there is
// room. Errors: ErrClosed, os.ErrDeadlineExceeded.
func (f *File) Write(try func(fd uintptr) bool) error {
	switch done, closed := f.once(try); {
	case closed:
		return ErrClosed
	case done:
		return nil
	}
	out, err := f.writer()
	if err != nil {
		return err
	}
	if err := f.arm(out, unix.EPOLLOUT); err != nil {
		return err
	}
	err = f.wait(out, try)
	if armErr := f.arm(out, 0); err == nil && !errors.Is(armErr, ErrClosed) {
		err = armErr
	}
	return err
}

// writer returns what writers wait with.
func (f *File) writer() (*waiter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.out != nil {
		return f.out, nil
	}
	var out *waiter
	var err error
	if closed := f.Control(func(fd uintptr) { out, err = newWaiter(int(fd), 0) }); closed != nil {
		return nil, closed
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", f.name, err)
	}
	if err := out.deadline(f.due); err != nil {
		out.close()
		return nil, fmt.Errorf("watch %s: %w", f.name, err)
	}
	f.out = out
	return out, nil
}

func (f *File) arm(w *waiter, events uint32) error {
	var err error
	if closed := f.Control(func(fd uintptr) { err = w.arm(int(fd), events) }); closed != nil {
		return closed
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.name, err)
	}
	return nil
}

// wait parks on w until try is done. w has one user at a time.
func (f *File) wait(w *waiter, try func(fd uintptr) bool) error {
	w.file, w.try = f, try
	err := w.raw.Read(w.attempt)
	closed := w.closed
	w.file, w.try = nil, nil
	switch {
	case closed:
		return ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case err != nil:
		return ErrClosed
	}
	return nil
}

// once runs try unless the file is closed.
func (f *File) once(try func(fd uintptr) bool) (done, closed bool) {
	f.life.RLock()
	defer f.life.RUnlock()
	if f.closed {
		return true, true
	}
	return try(f.fd), false
}

// SetReadDeadline makes Read fail with os.ErrDeadlineExceeded from t on; the
// zero time is never.
func (f *File) SetReadDeadline(t time.Time) error { return f.in.deadline(t) }

// SetWriteDeadline is the same for a Write that has to wait.
func (f *File) SetWriteDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.due = t
	if f.out != nil {
		return f.out.deadline(t)
	}
	return f.Control(func(uintptr) {})
}

// Close closes the descriptor once nobody is in a system call on it; who waits
// gets ErrClosed. Later calls do nothing.
func (f *File) Close() error {
	f.life.Lock()
	if f.closed {
		f.life.Unlock()
		return nil
	}
	f.closed = true
	err := unix.Close(int(f.fd))
	f.life.Unlock()

	f.in.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.out != nil {
		f.out.close()
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", f.name, err)
	}
	return nil
}
