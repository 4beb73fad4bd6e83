package pty

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/mesh/rawio"
)

// A terminal outlives the process that made it as long as somebody keeps its
// master open. Most of what there is to know of it the kernel keeps, also what
// happened while nobody looked: bytes, settings, reports that were not read,
// whether an app has it open. The rest is a State.

// State is what Read has taken from the kernel and not told yet, and what it
// told last.
type State struct {
	Opened bool // Opened was told last, and not Closed
	Fresh  bool // no bytes were read since
	Last   Event
	Held   []byte // read, and not told
	// Changes of settings that are not told yet, each after so many bytes of
	// Held beyond those of the changes before. Held is empty without one.
	Changes []Change
}

// Change is a change of settings that comes After so many bytes.
type Change struct {
	After int
	Event Event
}

// Last returns what Read told last of the settings, before its first call those
// that the terminal was made or found with. It must not be called at the same
// time as Read.
func (p *PTY) Last() Event { return p.last }

// SyscallConn gives the master's descriptor to who keeps it beyond this
// process. It must not be read or written.
func (p *PTY) SyscallConn() (syscall.RawConn, error) { return p.master, nil }

// Interrupt makes Read return os.ErrDeadlineExceeded, now and from then on. No
// byte is lost by it: Suspend has what was read.
func (p *PTY) Interrupt() {
	_ = p.master.SetReadDeadline(time.Unix(1, 0)) // long ago; it fails if closed: then Read returns too
	p.watch.end(os.ErrDeadlineExceeded)
}

// Suspend closes our descriptors and leaves terminal and link as they are, for
// Adopt. Nobody may Read or write any more. ErrClosed: it was closed before,
// and the apps hung up.
func (p *PTY) Suspend() (State, error) {
	err := ErrClosed
	p.closeOnce.Do(func() {
		err = errors.Join(p.watch.Close(), p.master.Close())
	})
	if err != nil {
		return State{}, err
	}
	s := State{Opened: p.attached, Fresh: p.fresh, Last: p.last, Held: slices.Clone(p.held)}
	for _, d := range p.dues {
		s.Changes = append(s.Changes, Change{d.bytes, d.event})
	}
	return s, nil
}

// Adopt goes on with a terminal whose master another process opened by Open.
// It takes the master over, also if it fails. c is as for Open: owner, mode and
// link are set again. With no State, because that process was killed, the first
// event is Opened if an app has the terminal open; what the process had read is
// lost. What an app left unread that has closed meanwhile is thrown away.
func Adopt(c Config, master *os.File, s *State) (*PTY, error) {
	p, err := newPTY(&c)
	if err == nil {
		p.master, err = takeOver(master)
	}
	_ = master.Close()
	if err == nil {
		if err = p.adopt(c, s); err != nil {
			_ = p.master.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("adopt pseudoterminal: %w", err)
	}
	return p, nil
}

// takeOver returns a duplicate of the master that is not in the runtime's poller.
func takeOver(master *os.File) (*rawio.File, error) {
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if closed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); closed != nil {
		return nil, closed
	}
	if err != nil {
		return nil, err
	}
	return rawio.NewFile(fd, "/dev/ptmx")
}

func (p *PTY) adopt(c Config, s *State) error {
	err := p.control(func(fd int) error {
		var err error
		if p.path, err = nodeOf(fd); err != nil {
			return err
		}
		return p.adoptState(fd, s)
	})
	if err != nil {
		return err
	}
	if err := setNode(p.path, c); err != nil {
		return err
	}
	if err := p.openWatch(); err != nil {
		return err
	}
	if err := makeLink(c.Link, p.path); err != nil {
		_ = p.watch.Close()
		return err
	}
	return nil
}

func (p *PTY) adoptState(fd int, s *State) error {
	if err := p.findNode(fd); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCPKT, 1); err != nil { // it is on: reports that wait stay
		return err
	}
	now := Event{}
	if err := p.snapshot(fd, &now); err != nil { // arms too
		return fmt.Errorf("read terminal: %w", err)
	}
	if p.last = now; s != nil {
		p.last = s.Last
	}
	if s != nil && s.Opened {
		p.attached, p.fresh = true, s.Fresh
		p.opened.Store(true)
		p.held = slices.Clone(s.Held)
		for _, c := range s.Changes {
			p.dues = append(p.dues, due{c.After, c.Event})
		}
		return nil
	}
	events, err := poll(fd)
	if err == nil && events&unix.POLLHUP != 0 {
		err = p.discardInput(fd)
	}
	return err
}

// findNode makes sure that p.path is the slave of the master, and has it opened
// by that from now on. The kernel opens a slave (TIOCGPTPEER) through the mounts
// that its master was opened through. They go with the process that did, some
// time after it, if it had a mount namespace of its own, as systemd gives to
// services for ProtectSystem and the like.
func (p *PTY) findNode(fd int) error {
	p.byPath = true
	peer, err := p.openPeer(fd)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(peer) }()
	return checkPair(fd, peer, p.path)
}

// checkPair tells by the window size, which a pair has in common, whether peer
// is the slave of master and not one of another devpts with the same number.
// Pixels mean nothing on a serial line; no app is told of the change, unless
// the terminal controls it.
func checkPair(master, peer int, path string) error {
	size, err := unix.IoctlGetWinsize(master, unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("compare %q: %w", path, err)
	}
	marked := *size
	for try := range uint16(2) { // once it may be the same by chance
		marked.Xpixel, marked.Ypixel = ^size.Xpixel, ^size.Ypixel+try
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &marked); err != nil {
			return fmt.Errorf("compare %q: %w", path, err)
		}
		seen, err := unix.IoctlGetWinsize(peer, unix.TIOCGWINSZ)
		if err == nil && *seen != marked {
			err = errors.New("it belongs to another devpts than the master does")
		}
		if err != nil {
			return errors.Join(fmt.Errorf("compare %q: %w", path, err), unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size))
		}
	}
	return unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size)
}

// Release gives up a terminal that nobody shall adopt: the link goes if it is
// ours, and the master is closed, which hangs the apps up once whoever else
// keeps it has closed it too.
func Release(master *os.File, link string) error {
	var node string
	raw, err := master.SyscallConn()
	if err == nil {
		if inner := raw.Control(func(fd uintptr) { node, err = nodeOf(int(fd)) }); inner != nil {
			err = inner
		}
	}
	if err == nil {
		err = removeLink(link, node)
	}
	return errors.Join(err, master.Close())
}

// nodeOf returns the path of the slave of a master.
func nodeOf(fd int) (string, error) {
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return "", fmt.Errorf("no master of a pseudoterminal: %w", err)
	}
	return ptsDir + strconv.Itoa(number), nil
}

// IsMaster reports whether f is the master of a pseudoterminal.
func IsMaster(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	is := false
	_ = raw.Control(func(fd uintptr) { _, err = nodeOf(int(fd)); is = err == nil })
	return is
}

// newPTY checks c but for the link, fills in its defaults and makes a PTY without a terminal.
func newPTY(c *Config) (*PTY, error) {
	if c.Line.IsZero() {
		c.Line = line.Default()
	}
	if err := c.Line.Check(); err != nil {
		return nil, err
	}
	p := &PTY{link: c.Link, framing: c.Line}
	p.tryOnce = func(fd uintptr) { p.tryN, p.tryErr = rawio.Write(fd, p.tryBytes) }
	p.writePark = p.writeAttempt
	p.readPark = p.readAttempt
	return p, nil
}
