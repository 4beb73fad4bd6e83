package usbip

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/tests/internal/usbip/chip"
)

// Speed is the device's as vhci_hcd wants it: full speed, whose bulk packets
// have 64 bytes.
const Speed = 2

// room is what the device keeps of each direction, in bytes. More waits: a
// slow device holds its driver back.
const room = 64 << 10

// ErrUnplugged is what Write returns while no host has the device.
var ErrUnplugged = errors.New("the device is not plugged in")

// Kind is the chip.
type Kind uint8

// The kinds of chips. ACM is the zero value.
const (
	ACM    Kind = iota // a CDC-ACM modem: /dev/ttyACM0
	CP2102             // /dev/ttyUSB0
	FT232B             // /dev/ttyUSB0; with FTDI's latency timer
)

// Config says what the device says of itself. The zero value is a CDC-ACM
// device 2341:0043 without a serial number.
type Config struct {
	Kind                  Kind
	VID, PID              uint16 // both 0: 2341:0043 (ACM), 10c4:ea60 (CP2102), 0403:6001 (FT232B)
	Serial                string // empty: it has none
	Manufacturer, Product string // empty: "SerialSpan", "test device"
}

// Change is the state after a control transfer that changed it.
type Change struct {
	chip.State
	// After is how many bytes had come from the host before it, since New.
	After uint64
	// At is when it came. Differences are on the monotonic clock.
	At time.Time
}

// Transfer is a control transfer that came from the host.
type Transfer struct {
	chip.Setup
	At time.Time // as Change.At
}

// Device is an emulated device. All methods are safe for concurrent use.
type Device struct {
	config Config
	decode chip.Decode

	mu       sync.Mutex
	changed  sync.Cond // of anything below
	closed   bool
	deadline time.Time
	timer    *time.Timer // wakes those who wait for the deadline; nil without one

	host    io.Writer // nil while unplugged
	said    []byte    // by Write, waiting for the host
	heard   []byte    // from the host, waiting for Read
	total   uint64    // of bytes heard
	state   chip.State
	history []Change
	asked   []Transfer      // all of them
	inputs  line.ModemLines // what SetModem said
	in      []request       // bulk reads that wait for said
	out     []request       // bulk writes that wait for room in heard
	notify  []request       // interrupt reads that wait for a change of inputs
	news    bool            // inputs changed and the host was not told
	ftdi    ftdi            // of an FT232B
}

// New returns a device that is not plugged in.
func New(config Config) *Device {
	d := &Device{config: config, decode: chip.ACM}
	d.changed.L = &d.mu
	c := &d.config
	vid, pid := uint16(0x2341), uint16(0x0043)
	switch c.Kind {
	case CP2102:
		d.decode, vid, pid = chip.CP210x, 0x10c4, 0xea60
	case FT232B:
		d.decode, vid, pid = chip.FTDI, 0x0403, 0x6001
	}
	if c.VID == 0 && c.PID == 0 {
		c.VID, c.PID = vid, pid
	}
	if c.Manufacturer == "" {
		c.Manufacturer = "SerialSpan"
	}
	if c.Product == "" {
		c.Product = "test device"
	}
	return d
}

// Read reads what was written to the port. It blocks while there is nothing,
// plugged in or not, and ends with os.ErrDeadlineExceeded or net.ErrClosed.
func (d *Device) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.wait(func() bool { return len(d.heard) > 0 }); err != nil {
		return 0, err
	}
	n := copy(p, d.heard)
	d.heard = d.heard[n:]
	d.answerWrites()
	return n, nil
}

// Write lets the device say p. It blocks while the host takes nothing and ends
// with ErrUnplugged, os.ErrDeadlineExceeded or net.ErrClosed; p's first n bytes
// may be on their way then.
func (d *Device) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := 0; n < len(p); {
		if err := d.wait(func() bool { return d.host == nil || len(d.said) < room }); err != nil {
			return n, err
		}
		if d.host == nil {
			return n, ErrUnplugged
		}
		part := p[n:min(len(p), n+room-len(d.said))]
		d.said = append(d.said, part...)
		n += len(part)
		d.answerReads()
	}
	return len(p), nil
}

// wait returns nil once ready does; mu is held. Read's ready bytes come before
// the deadline.
func (d *Device) wait(ready func() bool) error {
	for {
		switch {
		case d.closed:
			return net.ErrClosed
		case ready():
			return nil
		case !d.deadline.IsZero() && !time.Now().Before(d.deadline):
			return os.ErrDeadlineExceeded
		}
		d.changed.Wait()
	}
}

// SetDeadline bounds Read and Write, those that wait too. Zero: no bound.
func (d *Device) SetDeadline(when time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.deadline = when; !when.IsZero() {
		d.timer = time.AfterFunc(time.Until(when), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.changed.Broadcast()
		})
	}
	d.changed.Broadcast()
	return nil
}

// Close ends Read and Write with net.ErrClosed. It does not unplug: that is
// closing Serve's stream.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.ftdi.stop()
	d.closed = true
	d.changed.Broadcast()
	return nil
}

// State returns what the driver told last. A device forgets it when it is
// plugged in.
func (d *Device) State() chip.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// History returns every state since New, oldest first.
func (d *Device) History() []Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.history)
}

// Transfers returns every control transfer since New, oldest first: how far the
// host's drivers are with the device, and when.
func (d *Device) Transfers() []Transfer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// SetModem says which of CTS, DSR, DCD and RI are on. A CDC-ACM device tells
// the host at once and has no CTS; an FT232B tells at once; a CP2102 tells when
// it is asked.
func (d *Device) SetModem(on line.ModemLines) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news = d.news || on != d.inputs
	d.inputs = on
	d.answerNotify()
	if d.config.Kind == FT232B {
		d.answerReads()
	}
}

// set takes over a state; mu is held.
func (d *Device) set(s chip.State) {
	if s != d.state {
		d.state = s
		d.history = append(d.history, Change{State: s, After: d.total, At: time.Now()})
	}
}
