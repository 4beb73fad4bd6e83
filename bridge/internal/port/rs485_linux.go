package port

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

// ErrNoRS485: the driver cannot switch the direction of an RS-485 line. Many
// adapters do it by themselves and need nothing set.
var ErrNoRS485 = errors.New("the driver has no RS-485 mode")

// RS485 is the RS-485 mode of a port. The zero value leaves it as the driver
// has it.
type RS485 struct {
	On bool
	// RTSOnSend and RTSAfterSend are how RTS stands while sending and
	// otherwise; unchanged: on while sending, off otherwise.
	RTSOnSend, RTSAfterSend line.Drive
	// BeforeSend and AfterSend pass between RTS and data, whole milliseconds.
	BeforeSend, AfterSend time.Duration
	ReceiveDuringSend     bool // the port hears what it sends
	Terminate             bool // a terminating resistor, where there is one
}

// serialRS485 is struct serial_rs485 of linux/serial.h.
type serialRS485 struct {
	flags, before, after uint32
	reserved             [5]uint32
}

// The bits of serialRS485.flags.
const (
	rs485Enabled    = 1 << 0
	rs485OnSend     = 1 << 1
	rs485AfterSend  = 1 << 2
	rs485ReceiveToo = 1 << 4
	rs485Terminate  = 1 << 5
)

// kernel returns what the ioctl takes.
func (r RS485) kernel() serialRS485 {
	s := serialRS485{
		flags:  rs485Enabled,
		before: uint32(max(r.BeforeSend, 0).Milliseconds()), after: uint32(max(r.AfterSend, 0).Milliseconds()),
	}
	for _, bit := range [...]struct {
		set  bool
		flag uint32
	}{
		{r.RTSOnSend != line.DriveOff, rs485OnSend}, {r.RTSAfterSend == line.DriveOn, rs485AfterSend},
		{r.ReceiveDuringSend, rs485ReceiveToo}, {r.Terminate, rs485Terminate},
	} {
		if bit.set {
			s.flags |= bit.flag
		}
	}
	return s
}

// setRS485 applies the mode (Documentation/driver-api/serial/serial-rs485.rst).
func (p *Port) setRS485(r RS485) error {
	if !r.On {
		return nil
	}
	s := r.kernel()
	err := p.control(func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSRS485, uintptr(unsafe.Pointer(&s))); errno != 0 {
			return errno
		}
		return nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w (%w); leave rs485 out if the adapter switches by itself", ErrNoRS485, err)
	}
	return p.failed("set RS-485 mode of", err)
}
