package port

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

// SetLine changes the line settings, at once and without losing queued bytes;
// what was written and not yet sent may go out at the new ones (Drain first).
// A driver may not be able to do all of it: Line tells what came out.
func (p *Port) SetLine(s line.Settings) error {
	if err := s.Check(); err != nil {
		return fmt.Errorf("set port %q: %w", p.path, err)
	}
	p.setMu.Lock()
	defer p.setMu.Unlock()
	if p.library == nil {
		return ErrClosed
	}
	if err := p.library.SetMode(libraryMode(s)); err != nil {
		return p.failed("set", libraryError(err))
	}
	return p.finish(s)
}

// Line returns the settings in force, as the driver told after the last change.
func (p *Port) Line() line.Settings {
	p.setMu.Lock()
	defer p.setMu.Unlock()
	return p.line
}

// libraryMode is the part of the settings that the library can set.
func libraryMode(s line.Settings) *serial.Mode {
	mode := &serial.Mode{BaudRate: int(s.Baud), DataBits: int(s.DataBits)}
	switch s.Parity {
	case line.ParityNone:
		mode.Parity = serial.NoParity
	case line.ParityOdd:
		mode.Parity = serial.OddParity
	case line.ParityEven:
		mode.Parity = serial.EvenParity
	case line.ParityMark:
		mode.Parity = serial.MarkParity
	case line.ParitySpace:
		mode.Parity = serial.SpaceParity
	}
	if s.StopBits != line.StopOne {
		mode.StopBits = serial.TwoStopBits // with 5 data bits the chip makes it 1.5
	}
	return mode
}

// libraryError unseals what the library hides.
func libraryError(err error) error {
	var portErr *serial.PortError
	if !errors.As(err, &portErr) {
		if isGone(err) {
			return fmt.Errorf("%w (%w)", ErrGone, err)
		}
		return err
	}
	switch portErr.Code() {
	case serial.PortBusy:
		return ErrBusy
	case serial.PermissionDenied:
		return unix.EACCES
	}
	return err
}

// finish sets what the library does not, and reads back what came out.
func (p *Port) finish(s line.Settings) error {
	err := p.control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
		if err != nil {
			return err
		}
		wanted := *t
		shape(&wanted, s.Flow)
		if wanted != *t {
			if err := unix.IoctlSetTermios(fd, unix.TCSETS2, &wanted); err != nil {
				return err
			}
			if t, err = unix.IoctlGetTermios(fd, unix.TCGETS2); err != nil {
				return err
			}
		}
		p.line = settingsOf(t)
		return nil
	})
	if err != nil {
		return p.failed("set", err)
	}
	return nil
}

// shape makes the line raw, with reads that end at the first byte, without a
// fall of DTR at close, and with the wanted flow control. INPCK goes, since it
// turns a byte with a parity error into 0.
func shape(t *unix.Termios, flow line.Flow) {
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag &^= unix.HUPCL | unix.CRTSCTS
	t.Cflag |= unix.CLOCAL | unix.CREAD
	switch flow {
	case line.FlowRTSCTS:
		t.Cflag |= unix.CRTSCTS
	case line.FlowXONXOFF:
		t.Iflag |= unix.IXON | unix.IXOFF
		t.Cc[unix.VSTART], t.Cc[unix.VSTOP] = 0x11, 0x13
	case line.FlowNone:
	}
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

func settingsOf(t *unix.Termios) line.Settings {
	s := line.Settings{Baud: t.Ospeed, DataBits: 5}
	switch t.Cflag & unix.CSIZE {
	case unix.CS6:
		s.DataBits = 6
	case unix.CS7:
		s.DataBits = 7
	case unix.CS8:
		s.DataBits = 8
	}
	switch t.Cflag & (unix.PARENB | unix.PARODD | unix.CMSPAR) {
	case unix.PARENB:
		s.Parity = line.ParityEven
	case unix.PARENB | unix.PARODD:
		s.Parity = line.ParityOdd
	case unix.PARENB | unix.CMSPAR:
		s.Parity = line.ParitySpace
	case unix.PARENB | unix.PARODD | unix.CMSPAR:
		s.Parity = line.ParityMark
	}
	if t.Cflag&unix.CSTOPB != 0 {
		s.StopBits = line.StopTwo
		if s.DataBits == 5 {
			s.StopBits = line.StopOneAndHalf
		}
	}
	switch {
	case t.Cflag&unix.CRTSCTS != 0:
		s.Flow = line.FlowRTSCTS
	case t.Iflag&unix.IXON != 0:
		s.Flow = line.FlowXONXOFF
	}
	return s
}

// repairRead looks into a read of no bytes: the end of the device, or somebody
// has set VMIN to 0 (stty min 0). The latter is set right again.
func (p *Port) repairRead() bool {
	repaired := false
	_ = p.control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
		if err != nil || t.Cc[unix.VMIN] == 1 {
			return err
		}
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(fd, unix.TCSETS2, t)
		repaired = err == nil
		return err
	})
	return repaired
}

// Break holds the line in the break state for the given time, less if the
// context or the port ends. A PTY takes it and does nothing.
func (p *Port) Break(ctx context.Context, d time.Duration) error {
	if err := p.SetBreak(line.DriveOn); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	var cause error
	select {
	case <-timer.C:
	case <-ctx.Done():
		cause = fmt.Errorf("break port %q: %w", p.path, context.Cause(ctx))
	case <-p.closing:
		cause = ErrClosed
	}
	if err := p.SetBreak(line.DriveOff); err != nil && cause == nil {
		cause = err
	}
	return cause
}

// SetBreak begins (on) or ends (off) a break. A PTY takes it and does nothing.
// Errors: ErrGone, ErrClosed.
func (p *Port) SetBreak(to line.Drive) error {
	var request uint
	switch to {
	case line.DriveOn:
		request = unix.TIOCSBRK
	case line.DriveOff:
		request = unix.TIOCCBRK
	default:
		return nil
	}
	if err := p.control(func(fd int) error { return unix.IoctlSetInt(fd, request, 0) }); err != nil {
		return p.failed("break", err)
	}
	return nil
}

// PurgeInput throws away what the device has sent and nobody has read.
func (p *Port) PurgeInput() error { return p.purge(unix.TCIFLUSH) }

// PurgeOutput throws away what was written and the driver has not sent.
func (p *Port) PurgeOutput() error { return p.purge(unix.TCOFLUSH) }

func (p *Port) purge(queue int) error {
	if err := p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, queue) }); err != nil {
		return p.failed("purge", err)
	}
	return nil
}

// isPTY tells a PTY slave by its device number (Documentation/admin-guide/devices.txt).
func isPTY(fd int) bool {
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil {
		return false
	}
	major := unix.Major(uint64(stat.Rdev)) // 32 bits on some machines
	return major >= 136 && major <= 143
}
