package port

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

// SetModem sets the modem outputs in the mask (DTR, RTS) on or off, both in one
// step; see the package comment. Errors: ErrNoModemLines, ErrGone, ErrClosed.
func (p *Port) SetModem(mask, on line.ModemLines) error {
	p.setMu.Lock()
	defer p.setMu.Unlock()
	return p.modem(func(fd int) error {
		return setOutputs(
			func() (int, error) { return unix.IoctlGetInt(fd, unix.TIOCMGET) },
			func(bits int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCMSET, bits) },
			mask, on,
		)
	})
}

// setOutputs sets the outputs in the mask by one call of set, and leaves the
// others (OUT1, OUT2, LOOP) as get says they are.
func setOutputs(get func() (int, error), set func(bits int) error, mask, on line.ModemLines) error {
	bits, err := get()
	if err != nil {
		return err
	}
	return set(withOutputs(bits, mask, on))
}

// Modem returns the modem lines that are on. Errors: ErrNoModemLines, ErrGone,
// ErrClosed.
func (p *Port) Modem() (line.ModemLines, error) {
	var on line.ModemLines
	err := p.modem(func(fd int) error {
		bits, err := unix.IoctlGetInt(fd, unix.TIOCMGET)
		on = linesOf(bits)
		return err
	})
	if err != nil {
		return 0, err
	}
	return on, nil
}

// withOutputs returns the kernel's bits with the outputs in the mask changed.
func withOutputs(bits int, mask, on line.ModemLines) int {
	mask &= line.ModemOutputs
	for _, m := range modemBits {
		switch {
		case mask&on&m.line != 0:
			bits |= m.bit
		case mask&m.line != 0:
			bits &^= m.bit
		}
	}
	return bits
}

func linesOf(bits int) line.ModemLines {
	var on line.ModemLines
	for _, m := range modemBits {
		if bits&m.bit != 0 {
			on |= m.line
		}
	}
	return on
}

// drives says which outputs to set at open, and how.
func drives(dtr, rts line.Drive) (mask, on line.ModemLines) {
	for _, output := range [...]struct {
		drive line.Drive
		line  line.ModemLines
	}{{dtr, line.DTR}, {rts, line.RTS}} {
		switch output.drive {
		case line.DriveOn:
			mask |= output.line
			on |= output.line
		case line.DriveOff:
			mask |= output.line
		case line.DriveUnchanged:
		}
	}
	return mask, on
}

var modemBits = [...]struct {
	line line.ModemLines
	bit  int
}{
	{line.DTR, unix.TIOCM_DTR}, {line.RTS, unix.TIOCM_RTS}, {line.CTS, unix.TIOCM_CTS},
	{line.DSR, unix.TIOCM_DSR}, {line.DCD, unix.TIOCM_CD}, {line.RI, unix.TIOCM_RI},
}

func (p *Port) modem(f func(fd int) error) error {
	err := p.control(f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL):
		return fmt.Errorf("modem lines of port %q: %w", p.path, ErrNoModemLines)
	}
	return p.failed("modem lines of", err)
}
