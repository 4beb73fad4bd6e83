package port

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNotKept: the driver took the flag and does not have it.
var errNotKept = errors.New("the driver did not keep the flag")

// lowLatency makes the driver hand bytes on at once. An FTDI chip otherwise
// sits on a short reply for 16 ms; most others have nothing to set. A replug
// loses it. The flag needs no privileges; the chip's timer in sysfs, for drivers
// that have it without the flag, needs root.
func (p *Port) lowLatency(sysfsRoot string) error {
	err := p.control(setLowLatency)
	if err == nil || p.pty {
		return err
	}
	real, pathErr := filepath.EvalSymlinks(p.path)
	if pathErr != nil {
		return errors.Join(err, pathErr)
	}
	timer := filepath.Join(sysfsRoot, "bus", "usb-serial", "devices", filepath.Base(real), "latency_timer")
	if _, statErr := os.Stat(timer); statErr != nil {
		return err
	}
	return os.WriteFile(timer, []byte("1"), 0) // milliseconds, the least
}

// serialStruct is struct serial_struct of linux/serial.h.
type serialStruct struct {
	kind, line                int32
	port                      uint32
	irq, flags                int32
	fifoSize, divisor, base   int32
	closeDelay                uint16
	ioType, reserved          uint8
	hub6                      int32
	closingWait, closingWait2 uint16
	memory                    uintptr
	memoryShift               uint16
	portHigh                  uint32
	mapBase                   uintptr
}

// asyncLowLatency is ASYNC_LOW_LATENCY of linux/tty_flags.h.
const asyncLowLatency = 1 << 13

func setLowLatency(fd int) error {
	var s serialStruct
	if err := ioctlSerial(fd, unix.TIOCGSERIAL, &s); err != nil {
		return err
	}
	if s.flags&asyncLowLatency != 0 {
		return nil
	}
	s.flags |= asyncLowLatency
	if err := ioctlSerial(fd, unix.TIOCSSERIAL, &s); err != nil {
		return err
	}
	if err := ioctlSerial(fd, unix.TIOCGSERIAL, &s); err != nil {
		return err
	}
	if s.flags&asyncLowLatency == 0 {
		return errNotKept
	}
	return nil
}

func ioctlSerial(fd int, request uintptr, s *serialStruct) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(s))); errno != 0 {
		return errno
	}
	return nil
}
