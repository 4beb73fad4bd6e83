package publish

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/serialspan/serialspan/bridge/internal/pty"
)

// OpenSimulatedPTY makes a raw PTY for a simulated device: the device talks
// through master, and a rule's path publishes slavePath like any tty. The
// slave is kept open, so the device does not notice when a Publisher opens
// and closes it. Close of master ends both and unblocks Read.
func OpenSimulatedPTY() (master io.ReadWriteCloser, slavePath string, err error) {
	tty, err := pty.Open(pty.Config{})
	if err != nil {
		return nil, "", err
	}
	slave, err := os.OpenFile(tty.Node(), os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("keep slave open: %w", err), tty.Close())
	}
	m := &simulatedPTY{tty: tty, slave: slave}
	// Until this event was read, Write would say that nobody has it open.
	if _, _, err := tty.Read(make([]byte, pty.MinRead)); err != nil {
		return nil, "", errors.Join(err, m.Close())
	}
	return m, tty.Node(), nil
}

type simulatedPTY struct {
	tty   *pty.PTY
	slave *os.File
	buf   [4096]byte // what one Read of the PTY returns at most
	rest  []byte     // of buf, read and not returned yet
	once  sync.Once
	err   error
}

// Read implements io.Reader for one goroutine; events are passed over.
func (m *simulatedPTY) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		n, _, err := m.tty.Read(m.buf[:])
		if err != nil {
			return 0, err
		}
		m.rest = m.buf[:n]
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// Write implements io.Writer. It blocks while the slave's buffer is full.
func (m *simulatedPTY) Write(p []byte) (int, error) { return m.tty.Write(p) }

func (m *simulatedPTY) Close() error {
	m.once.Do(func() { m.err = errors.Join(m.tty.Close(), m.slave.Close()) })
	return m.err
}
