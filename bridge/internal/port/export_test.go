package port

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

// For tests of what a PTY cannot show.
var (
	Drives      = drives
	WithOutputs = withOutputs
	SetOutputs  = setOutputs
	LinesOf     = linesOf
	SettingsOf  = settingsOf
)

// Interruptible runs call on a thread until stop, which returns its error.
func Interruptible(call func() error) (stop func() error, err error) {
	i, err := startInterruptible(call)
	if err != nil {
		return nil, err
	}
	return func() error { i.stop(); return i.err }, nil
}

// Kernel returns struct serial_rs485 in memory, little endian.
func (r RS485) Kernel() []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, r.flat()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (r RS485) flat() [8]uint32 {
	s := r.kernel()
	return [8]uint32{s.flags, s.before, s.after}
}

// LowLatency sets the chip's timer below root as for a driver without the flag.
func LowLatency(p *Port, root string) error {
	real := Port{path: p.path, file: p.file}
	return real.lowLatency(root)
}

// SetLowLatency sets or clears the flag that Open sets, as setserial(8) does.
func SetLowLatency(fd int, want line.Drive) error {
	var s serialStruct
	if err := ioctlSerial(fd, unix.TIOCGSERIAL, &s); err != nil {
		return err
	}
	if s.flags &^= asyncLowLatency; want == line.DriveOn {
		s.flags |= asyncLowLatency
	}
	return ioctlSerial(fd, unix.TIOCSSERIAL, &s)
}
