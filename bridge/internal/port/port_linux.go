package port

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/mesh/rawio"
)

// Config says what to open and how it shall stand then.
type Config struct {
	Path      string        // of any tty; required
	Line      line.Settings // zero: line.Default
	DTR, RTS  line.Drive    // zero: as Linux leaves them at open, on
	RS485     RS485         // zero: as the driver has it
	SysfsRoot string        // for an FTDI chip's timer; empty: "/sys"
	CloseWait time.Duration // how long Close lets the driver send what it has; 0: one second, negative: not at all
	Logger    *slog.Logger  // nil: discard
}

// Port is an open serial port. One goroutine may Read; the other methods are
// safe for concurrent use. Whoever opened it closes it, also after ErrGone: the
// kernel frees the name only then.
type Port struct {
	path      string
	pty       bool
	closeWait time.Duration
	log       *slog.Logger
	file      *rawio.File
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error

	// The library and the settings; held over each change of them.
	setMu   sync.Mutex
	library serial.Port // nil after Close
	line    line.Settings

	// One write system call; the closure is made once: a write allocates nothing.
	tryMu    sync.Mutex
	tryBytes []byte
	tryN     int
	tryErr   error
	tryOnce  func(fd uintptr)

	// Owned by the goroutine that calls Read, for the same reason.
	readBytes  []byte
	readTaking func()
	readN      int
	readErr    error
	readPark   func(fd uintptr) bool
}

// Open opens a tty for us alone, raw, with the wanted settings. It does not
// block for a carrier. DTR and RTS are raised for some milliseconds even if
// they are wanted off: Linux does that. Input that came before is purged.
// Errors: ErrBusy, ErrNotTTY, ErrGone, line.ErrSettings, fs.ErrNotExist,
// fs.ErrPermission.
func Open(c Config) (*Port, error) {
	p, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open port %q: %w", c.Path, err)
	}
	return p, nil
}

func open(c Config) (*Port, error) {
	if c.Line.IsZero() {
		c.Line = line.Default()
	}
	if err := c.Line.Check(); err != nil {
		return nil, err
	}
	if c.CloseWait == 0 {
		c.CloseWait = time.Second
	}
	if c.SysfsRoot == "" {
		c.SysfsRoot = "/sys"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Port{path: c.Path, closeWait: c.CloseWait, log: c.Logger, closing: make(chan struct{})}
	p.tryOnce = func(fd uintptr) { p.tryN, p.tryErr = rawio.Write(fd, p.tryBytes) }
	p.readPark = p.readAttempt
	fd, err := openTTY(c.Path)
	if err != nil {
		return nil, err
	}
	p.pty = isPTY(fd)
	if p.file, err = rawio.NewFile(fd, c.Path); err != nil {
		return nil, err
	}
	if err := p.prepare(c); err != nil {
		p.closeWait = -1
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// openTTY opens our own descriptor and makes sure that nobody else has the tty.
func openTTY(path string) (int, error) {
	if err := usedByOther(path); err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return -1, ErrBusy
	case errors.Is(err, unix.EIO) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV):
		return -1, fmt.Errorf("%w (%w)", ErrGone, err)
	case err != nil:
		return -1, err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		err = ErrNotTTY
	} else if flockErr := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); flockErr != nil {
		err = ErrBusy
		if !errors.Is(flockErr, unix.EWOULDBLOCK) {
			err = fmt.Errorf("lock: %w", flockErr)
		}
	} else if exclusive, _ := unix.IoctlGetInt(fd, unix.TIOCGEXCL); exclusive != 0 {
		err = ErrBusy
	} else {
		// At once, and not by the library after an open of its own: a new tty
		// echoes, and a device that talks would hear itself.
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		err = unix.IoctlSetTermios(fd, unix.TCSETS2, t)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// prepare does steps 2 to 6 of the package comment.
func (p *Port) prepare(c Config) error {
	library, err := serial.Open(c.Path, libraryMode(c.Line))
	if err != nil {
		return libraryError(err)
	}
	p.library = library
	if err := p.finish(c.Line); err != nil {
		return err
	}
	// What came while the tty was not raw may be mangled.
	if err := p.purge(unix.TCIFLUSH); err != nil {
		return err
	}
	if p.pty {
		// Nothing to do about a failure, and none that is known.
		_ = p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCNXCL, 0) })
	}
	if mask, on := drives(c.DTR, c.RTS); mask != 0 {
		if err := p.SetModem(mask, on); err != nil && !errors.Is(err, ErrNoModemLines) {
			return err
		}
	}
	if err := p.setRS485(c.RS485); err != nil {
		return err
	}
	if err := p.lowLatency(c.SysfsRoot); err != nil {
		p.log.Debug("low latency not set", "path", p.path, "err", err)
	}
	return nil
}

// Path returns the path that was opened.
func (p *Port) Path() string { return p.path }

// Read waits for bytes from the device. It is unblocked by Close (ErrClosed)
// and by the loss of the device (ErrGone); it never returns io.EOF.
func (p *Port) Read(b []byte) (int, error) { return p.ReadTaking(b, nil) }

// ReadTaking is Read that calls taking, if that is not nil, right before each
// system call that may take bytes from the driver: what it finds stood before
// the first of the bytes was taken. Read alone cannot tell whether bytes were
// taken before or after, say, a PurgeInput. taking must not block, nor wait for
// any lock: Close waits for it.
func (p *Port) ReadTaking(b []byte, taking func()) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		p.readBytes, p.readTaking = b, taking
		err := p.file.Read(p.readPark)
		p.readBytes, p.readTaking = nil, nil
		switch {
		case err != nil:
			return 0, p.failed("read", err)
		case p.readErr != nil:
			return 0, p.failed("read", p.readErr)
		case p.readN > 0:
			return p.readN, nil
		case !p.repairRead():
			return 0, p.failed("read", io.EOF)
		}
	}
}

// readAttempt is one try of Read; false parks it until the device has sent.
func (p *Port) readAttempt(fd uintptr) bool {
	if p.readTaking != nil {
		p.readTaking()
	}
	p.readN, p.readErr = rawio.Read(fd, p.readBytes)
	return p.readErr != unix.EAGAIN
}

// Write hands all bytes to the driver and blocks while its queue is full. It is
// unblocked by Close (ErrClosed), by the loss of the device (ErrGone) and by
// the write deadline (os.ErrDeadlineExceeded).
func (p *Port) Write(b []byte) (int, error) {
	total := 0
	for total < len(b) {
		var n int
		var failed error
		err := p.file.Write(func(fd uintptr) bool {
			n, failed = rawio.Write(fd, b[total:])
			return failed != unix.EAGAIN
		})
		total += n
		if err = cmp.Or(err, failed); err != nil {
			return total, p.failed("write", err)
		}
	}
	return total, nil
}

// TryWrite hands bytes to the driver by one system call that does not block. It
// returns how many were taken; fewer than len(b) with a nil error means that
// the driver's queue is full. It does not wait for a Write that runs; only one
// of them should be in use at a time. Errors: ErrGone, ErrClosed.
func (p *Port) TryWrite(b []byte) (int, error) {
	p.tryMu.Lock()
	defer p.tryMu.Unlock()
	p.tryBytes, p.tryN, p.tryErr = b, 0, nil
	err := p.file.Control(p.tryOnce)
	p.tryBytes = nil
	switch {
	case err != nil:
		return 0, ErrClosed
	case p.tryErr == unix.EAGAIN:
		return 0, nil
	case p.tryErr != nil:
		return p.tryN, p.failed("write", p.tryErr)
	}
	return p.tryN, nil
}

// SetWriteDeadline sets when a blocked Write gives up; the zero time is never.
func (p *Port) SetWriteDeadline(t time.Time) error {
	if err := p.file.SetWriteDeadline(t); err != nil {
		return p.failed("set deadline", err)
	}
	return nil
}

// Drain waits until the driver has sent what was written, as far as it can
// tell: a chip's own buffer and a PTY do not show.
func (p *Port) Drain(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		queued, err := p.Queued()
		if err != nil || queued == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain port %q: %w", p.path, context.Cause(ctx))
		case <-p.closing:
			return ErrClosed
		case <-ticker.C:
		}
	}
}

// Queued is how many bytes the driver has and has not sent, as far as it can
// tell: a chip's own buffer and a PTY do not show. Errors: ErrGone, ErrClosed.
func (p *Port) Queued() (int, error) {
	var queued int
	err := p.control(func(fd int) error {
		var err error
		queued, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		return err
	})
	if err != nil {
		return 0, p.failed("ask", err)
	}
	return queued, nil
}

// Close gives the device back. Reads, writes, Drain and Break that wait end
// with ErrClosed. What the driver has not sent after Config.CloseWait is
// thrown away: otherwise a line held by flow control would keep Close for half
// a minute. DTR and RTS stay as they are. Later calls do nothing.
func (p *Port) Close() error {
	p.closeOnce.Do(func() {
		close(p.closing)
		// Readers and writers stop before the close.
		_ = p.file.SetReadDeadline(time.Unix(1, 0))
		_ = p.file.SetWriteDeadline(time.Unix(1, 0))
		p.settle()
		p.setMu.Lock()
		library := p.library
		p.library = nil
		p.setMu.Unlock()
		if library != nil {
			p.closeErr = library.Close()
		}
		if err := p.file.Close(); p.closeErr == nil {
			p.closeErr = err
		}
		if p.closeErr != nil {
			p.closeErr = fmt.Errorf("close port %q: %w", p.path, p.closeErr)
		}
	})
	return p.closeErr
}

// settle lets the driver send for a while, then drops the rest.
func (p *Port) settle() {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(p.closeWait); ; <-ticker.C {
		queued, err := p.Queued()
		if err != nil || queued == 0 {
			return
		}
		if !time.Now().Before(deadline) { // monotonic
			p.log.Warn("bytes not sent at close", "path", p.path, "bytes", queued)
			_ = p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH) })
			return
		}
	}
}

// failed puts an error into words and types.
func (p *Port) failed(verb string, err error) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s port %q: %w", verb, p.path, os.ErrDeadlineExceeded)
	case errors.Is(err, os.ErrClosed), errors.Is(err, ErrClosed):
		return ErrClosed
	case errors.Is(err, io.EOF), isGone(err):
		return fmt.Errorf("%s port %q: %w", verb, p.path, ErrGone)
	}
	return fmt.Errorf("%s port %q: %w", verb, p.path, err)
}

func isGone(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}

// control runs f with our descriptor, which cannot be closed or reused meanwhile.
func (p *Port) control(f func(fd int) error) error {
	var err error
	if p.file.Control(func(fd uintptr) { err = f(int(fd)) }) != nil {
		return ErrClosed
	}
	return err
}
