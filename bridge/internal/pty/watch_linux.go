package pty

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inotify is the instance of the process: a user may have 128 of them by default
// (fs.inotify.max_user_instances), but as many watches as memory allows, and so
// many terminals share one. It exists while there is a watch, with one goroutine
// that reads it: who makes the first watch starts it, who closes the last closes
// the instance and joins it.
var inotify shared

type shared struct {
	change sync.Mutex // held while watches come and go
	file   *os.File   // nil: there is none; guarded by change
	ended  chan struct{}

	mu      sync.Mutex
	watches map[int32]*watch // by watch descriptor
}

// watch tells of the opens of one terminal.
type watch struct {
	path   string
	number int32
	opened chan struct{} // has a value if there was an open since the last await

	over chan struct{} // closed when err is set

	mu  sync.Mutex
	err error // what await fails with
}

// openWatch watches the terminal at path from now on.
func openWatch(path string) (*watch, error) {
	w := &watch{path: path, opened: make(chan struct{}, 1), over: make(chan struct{})}
	if err := inotify.add(w); err != nil {
		return nil, fmt.Errorf("watch terminal %q: %w", path, err)
	}
	return w, nil
}

func (s *shared) add(w *watch) error {
	s.change.Lock()
	defer s.change.Unlock()
	if s.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if errors.Is(err, unix.EMFILE) {
			return fmt.Errorf("%w: raise sysctl fs.inotify.max_user_instances", err)
		}
		if err != nil {
			return err
		}
		s.file, s.ended, s.watches = os.NewFile(uintptr(fd), "inotify"), make(chan struct{}), map[int32]*watch{}
		go s.read(s.file, s.ended)
	}
	err := s.control(func(fd int) error {
		// Under mu: the reader must not see an event before it knows whose it is.
		s.mu.Lock()
		defer s.mu.Unlock()
		// Once more on the same node, of a terminal that was closed and not yet
		// forgotten, gives the number that it has: the newer watch has it then.
		number, err := unix.InotifyAddWatch(fd, w.path, unix.IN_OPEN)
		if err == nil {
			w.number = int32(number)
			s.watches[w.number] = w
		}
		return err
	})
	if err != nil {
		s.endIfUnused()
	}
	return err
}

// remove is the reverse of add; what is removed already stays so.
func (s *shared) remove(w *watch) {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	mine := s.watches[w.number] == w
	if mine {
		delete(s.watches, w.number)
	}
	s.mu.Unlock()
	if !mine {
		return
	}
	_ = s.control(func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(w.number)) // fails if the node has gone
		return err
	})
	s.endIfUnused()
}

// endIfUnused joins the reader. change is held.
func (s *shared) endIfUnused() {
	s.mu.Lock()
	used := len(s.watches) > 0
	s.mu.Unlock()
	if used {
		return
	}
	_ = s.file.Close()
	<-s.ended
	s.file = nil
}

// control runs f with the descriptor. change is held.
func (s *shared) control(f func(fd int) error) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	if closed := raw.Control(func(fd uintptr) { err = f(int(fd)) }); closed != nil {
		return closed
	}
	return err
}

// read hands out events until file is closed.
func (s *shared) read(file *os.File, ended chan struct{}) {
	defer close(ended)
	buf := make([]byte, 4096)
	for {
		n, err := file.Read(buf)
		if err != nil {
			return // closed; an instance has no other way to fail
		}
		s.mu.Lock()
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			rest = rest[unix.SizeofInotifyEvent+int(event.Len):]
			if event.Mask&unix.IN_Q_OVERFLOW != 0 { // it may have been any
				for _, w := range s.watches {
					w.tell()
				}
			} else if w := s.watches[event.Wd]; w != nil {
				w.tell()
			}
		}
		s.mu.Unlock()
	}
}

func (w *watch) tell() {
	select {
	case w.opened <- struct{}{}:
	default:
	}
}

// await blocks until the terminal was opened by somebody since the last call, or
// since the watch began. It fails with what end was called with.
func (w *watch) await() error {
	if err := w.why(); err != nil {
		return err
	}
	select {
	case <-w.opened:
		return nil
	case <-w.over:
		return w.why()
	}
}

// end makes await fail with err, now and from then on.
func (w *watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		close(w.over)
	}
	w.err = err
}

func (w *watch) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the watch; await gives ErrClosed. It is safe to call twice.
func (w *watch) Close() error {
	w.end(ErrClosed)
	inotify.remove(w)
	return nil
}
