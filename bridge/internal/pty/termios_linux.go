package pty

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

// speeds are the rates with a constant in asm-generic/termbits.h. Others are
// set by BOTHER, which programs that use plain termios show as a wrong rate.
var speeds = map[uint32]uint32{
	50: unix.B50, 75: unix.B75, 110: unix.B110, 134: unix.B134, 150: unix.B150, 200: unix.B200, 300: unix.B300,
	600: unix.B600, 1200: unix.B1200, 1800: unix.B1800, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600,
	19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400,
	460800: unix.B460800, 500000: unix.B500000, 576000: unix.B576000, 921600: unix.B921600, 1000000: unix.B1000000,
	1152000: unix.B1152000, 1500000: unix.B1500000, 2000000: unix.B2000000, 2500000: unix.B2500000,
	3000000: unix.B3000000, 3500000: unix.B3500000, 4000000: unix.B4000000,
}

// setInitial sets the slave, by way of the master, to raw with EXTPROC. HUPCL is
// off: many a stick is reset by DTR, and a program that only looks at the
// terminal shall not do that. One that wants DTR to drop sets it.
func setInitial(fd int, s line.Settings) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, unix.EXTPROC
	t.Cflag &^= unix.CBAUD | unix.CSTOPB | unix.CRTSCTS | unix.PARODD | unix.CMSPAR | unix.HUPCL
	t.Cflag |= unix.CREAD | unix.CLOCAL
	if constant, ok := speeds[s.Baud]; ok {
		t.Cflag |= constant
	} else {
		t.Cflag |= unix.BOTHER
	}
	t.Ispeed, t.Ospeed = s.Baud, s.Baud
	if s.StopBits != line.StopOne {
		t.Cflag |= unix.CSTOPB
	}
	switch s.Flow {
	case line.FlowRTSCTS:
		t.Cflag |= unix.CRTSCTS
	case line.FlowXONXOFF:
		t.Iflag |= unix.IXON | unix.IXOFF
	case line.FlowNone:
	}
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	t.Cc[unix.VSTART], t.Cc[unix.VSTOP] = 0, 0 // see arm
	return unix.IoctlSetTermios(fd, unix.TCSETS2, t)
}

// arm changes t so that bytes pass as they are and changes are reported, and
// tells whether there was anything to change.
//
// With IXON set the kernel looks for the stop character in input that waits for
// a slow reader (n_tty_lookahead_flow_ctrl, since Linux 6.0) even with EXTPROC,
// and stops the app's output. It compares with the start character first, so
// one character for both stops nothing.
func arm(t *unix.Termios) bool {
	if t.Lflag&unix.EXTPROC != 0 && t.Cc[unix.VSTOP] == t.Cc[unix.VSTART] {
		return false
	}
	t.Lflag |= unix.EXTPROC
	t.Cc[unix.VSTOP] = t.Cc[unix.VSTART]
	return true
}

// snapshot reads the slave's settings into the event and arms them again if an
// app has undone that. An app's change between these two system calls would be
// lost, so nothing stands between them.
func (p *PTY) snapshot(fd int, event *Event) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return err
	}
	if arm(t) {
		if err := unix.IoctlSetTermios(fd, unix.TCSETS2, t); err != nil {
			return err
		}
	}
	s := line.Settings{Baud: t.Ospeed, DataBits: p.framing.DataBits, Parity: p.framing.Parity}
	event.LinesOff = t.Cflag&unix.CBAUD == unix.B0
	if event.LinesOff || s.Baud == 0 {
		s.Baud = event.Line.Baud
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
	case t.Iflag&(unix.IXON|unix.IXOFF) != 0:
		s.Flow = line.FlowXONXOFF
	}
	event.Line = s
	event.HangUpOnClose = t.Cflag&unix.HUPCL != 0
	return nil
}

// poll tells the state of the master without waiting.
func poll(fd int) (int16, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLPRI}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents, err
	}
}

// openPeer opens the slave of a master, without its path where that is possible.
func (p *PTY) openPeer(master int) (int, error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if p.byPath {
		peer, err := unix.Open(p.path, flags, 0)
		if err != nil {
			return -1, fmt.Errorf("open slave %q: %w", p.path, err)
		}
		return peer, nil
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return -1, fmt.Errorf("open slave: %w", errno)
	}
	return int(peer), nil
}

// discardInput throws away what was written to the master and no app has read.
// It reads: a flush would only empty one of the kernel's two buffers and come
// back as an app's purge.
func (p *PTY) discardInput(master int) error {
	peer, err := p.openPeer(master)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(peer) }()
	var scratch [4096]byte
	// The kernel holds about 20 KiB; the bound is for an app that opens and
	// chatters with itself meanwhile.
	for range 64 {
		n, err := unix.Read(peer, scratch[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil
		}
	}
	return nil
}
