package port

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// interruptSignal wakes a thread out of a system call. It is a real-time
// signal that neither the C libraries (32 to 34) nor Go use; Go's handler for
// it does nothing.
const interruptSignal = unix.Signal(43)

// errNoInterrupt: blocking calls cannot be ended here.
var errNoInterrupt = errors.New("system calls cannot be interrupted")

// Go installs every handler with SA_RESTART, and then the kernel begins an
// interrupted TIOCMIWAIT again. armInterrupt takes that flag from our signal;
// all else of the action stays as Go made it.
var armInterrupt = sync.OnceValue(func() error {
	// struct sigaction of the kernel: handler, flags, restorer, mask (8 bytes),
	// on all machines but MIPS.
	const flags, size, setSize = 1, 8, 8
	var action [size]uintptr
	get := func(set, old unsafe.Pointer) error {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruptSignal), uintptr(set), uintptr(old), setSize, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	if err := get(nil, unsafe.Pointer(&action)); err != nil {
		return err
	}
	const saRestart = 0x10000000
	if action[0] <= 1 || action[flags]&saRestart == 0 { // default, ignored, or not Go's
		return errNoInterrupt
	}
	action[flags] &^= saRestart
	return get(unsafe.Pointer(&action), nil)
})

// interruptible is a thread in a blocking system call.
type interruptible struct {
	mu      sync.Mutex
	thread  int // 0: not in the call
	stopped bool
	ended   chan struct{}
	err     error // of call; valid when ended is closed
}

// interrupt how often: the signal may come before the thread is in the call.
const interruptEvery = time.Millisecond

// startInterruptible runs call again and again on a thread of its own, until it
// fails or stop is called. It must return EINTR when interrupted.
func startInterruptible(call func() error) (*interruptible, error) {
	if err := armInterrupt(); err != nil {
		return nil, err
	}
	i := &interruptible{ended: make(chan struct{})}
	go func() {
		defer close(i.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for i.enter() {
			err := call()
			i.leave()
			if err != nil && !errors.Is(err, unix.EINTR) {
				i.err = err
				return
			}
		}
	}()
	return i, nil
}

func (i *interruptible) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.thread = unix.Gettid()
	return !i.stopped
}

func (i *interruptible) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.thread = 0
}

// stop ends the call and waits for the thread.
func (i *interruptible) stop() {
	i.mu.Lock()
	i.stopped = true
	i.mu.Unlock()
	ticker := time.NewTicker(interruptEvery)
	defer ticker.Stop()
	for {
		i.mu.Lock()
		if i.thread != 0 {
			_ = unix.Tgkill(os.Getpid(), i.thread, interruptSignal)
		}
		i.mu.Unlock()
		select {
		case <-i.ended:
			return
		case <-ticker.C:
		}
	}
}
