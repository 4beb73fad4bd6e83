package client

import (
	"fmt"
	"math"
	"time"

	"go.bug.st/serial"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// Bits of a purge, as the program sees the directions.
const (
	purgeReceive  = 1
	purgeTransmit = 2
)

// SetMode sets baud rate, data bits, parity and stop bits, for the bytes that
// are written after it, and returns when the device has them. Flow control stays
// as it is and InitialStatusBits are not looked at, as in go.bug.st/serial. A
// BaudRate of 0 is 9600, DataBits of 0 are 8, as there; 1.5 stop bits exist with
// 5 data bits only, and 2 with 6 to 8 only.
func (p *Port) SetMode(mode *serial.Mode) error {
	settings, err := modeSettings(*mode, p.Line().Flow)
	if err != nil {
		return err
	}
	return p.SetLine(settings)
}

// SetLine is SetMode for all that line settings can say, flow control included.
func (p *Port) SetLine(s line.Settings) error {
	if err := s.Check(); err != nil {
		return &PortError{code: lineCode(s), err: Errorf(Invalid, "", "set line settings of device %q: %v", p.device, err)}
	}
	if p.readOnly {
		return portError(p.readOnlyError("set line settings of"))
	}
	err := p.ask(portwire.Frame{Op: portwire.OpLine, Line: s.String()})
	if err == nil || !isOneOf(err, Failed) {
		return err
	}
	if now := p.Line(); now != s && !now.IsZero() {
		return &PortError{code: differs(s, now), err: err}
	}
	return err
}

// Line returns the line settings in force, as far as is known; the zero value
// where the device has none.
func (p *Port) Line() line.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := line.Parse(p.state.Line) // zero if it says nothing
	return s
}

// Modem returns the modem lines that are known, the outputs among them, and
// those that are on, as last told by the device's node. Both are empty where the
// device has none.
func (p *Port) Modem() (known, on line.ModemLines) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Mask, p.state.On & p.state.Mask
}

// Note says what is unusual with the device, for people; empty: nothing.
func (p *Port) Note() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Text
}

// modeSettings reads a mode; its errors are PortErrors.
func modeSettings(m serial.Mode, flow line.Flow) (line.Settings, error) {
	refuse := func(code serial.PortErrorCode, what string, value any) (line.Settings, error) {
		return line.Settings{}, &PortError{code: code, err: Errorf(Invalid, "", "set mode: %s %v", what, value)}
	}
	if m.BaudRate == 0 {
		m.BaudRate = 9600
	}
	if m.DataBits == 0 {
		m.DataBits = 8
	}
	parities := map[serial.Parity]line.Parity{
		serial.NoParity: line.ParityNone, serial.OddParity: line.ParityOdd, serial.EvenParity: line.ParityEven,
		serial.MarkParity: line.ParityMark, serial.SpaceParity: line.ParitySpace,
	}
	stops := map[serial.StopBits]line.StopBits{
		serial.OneStopBit: line.StopOne, serial.OnePointFiveStopBits: line.StopOneAndHalf, serial.TwoStopBits: line.StopTwo,
	}
	parity, parityOK := parities[m.Parity]
	stop, stopOK := stops[m.StopBits]
	switch {
	case m.BaudRate < 0 || int64(m.BaudRate) > math.MaxUint32:
		return refuse(serial.InvalidSpeed, "baud rate", m.BaudRate)
	case m.DataBits < 5 || m.DataBits > 8:
		return refuse(serial.InvalidDataBits, "data bits", m.DataBits)
	case !parityOK:
		return refuse(serial.InvalidParity, "parity", int(m.Parity))
	case !stopOK:
		return refuse(serial.InvalidStopBits, "stop bits", int(m.StopBits))
	}
	s := line.Settings{Baud: uint32(m.BaudRate), DataBits: uint8(m.DataBits), Parity: parity, StopBits: stop, Flow: flow}
	if err := s.Check(); err != nil {
		return refuse(serial.InvalidStopBits, "stop bits", fmt.Sprintf("with %d data bits: %v", m.DataBits, err))
	}
	return s, nil
}

// lineCode is what is wrong with settings that Check refuses.
func lineCode(s line.Settings) serial.PortErrorCode {
	switch {
	case s.Baud == 0:
		return serial.InvalidSpeed
	case s.DataBits < 5 || s.DataBits > 8:
		return serial.InvalidDataBits
	case s.Parity > line.ParitySpace:
		return serial.InvalidParity
	}
	return serial.InvalidStopBits
}

// differs says what of the settings the device did not take.
func differs(wanted, now line.Settings) serial.PortErrorCode {
	switch {
	case wanted.Baud != now.Baud:
		return serial.InvalidSpeed
	case wanted.DataBits != now.DataBits:
		return serial.InvalidDataBits
	case wanted.Parity != now.Parity:
		return serial.InvalidParity
	case wanted.StopBits != now.StopBits:
		return serial.InvalidStopBits
	}
	return serial.FunctionNotImplemented // the flow control
}

// Drain waits until the driver of the device has all that was written. It does
// not wait for the last bits to leave the wire.
func (p *Port) Drain() error { return p.ask(portwire.Frame{Op: portwire.OpDrain}) }

// ResetInputBuffer drops all that came from the device until now and was not
// read, wherever it is. What Read returns afterwards came later.
func (p *Port) ResetInputBuffer() error {
	return p.ask(portwire.Frame{Op: portwire.OpPurge, Bits: purgeReceive})
}

// ResetOutputBuffer drops all that was written and that the device has not got,
// wherever it is. A Write that waits meanwhile goes on with the rest of its
// bytes.
func (p *Port) ResetOutputBuffer() error {
	if p.readOnly {
		return portError(p.readOnlyError("purge"))
	}
	return p.ask(portwire.Frame{Op: portwire.OpPurge, Bits: purgeTransmit})
}

// SetDTR sets the modem line Data Terminal Ready and returns when that is done.
// Where the time between two lines matters use Reset, or Client.Signal: those run
// at the device.
func (p *Port) SetDTR(dtr bool) error { return p.drive(line.DTR, dtr) }

// SetRTS sets the modem line Request To Send, as SetDTR does.
func (p *Port) SetRTS(rts bool) error { return p.drive(line.RTS, rts) }

func (p *Port) drive(output line.ModemLines, on bool) error {
	if p.readOnly {
		return portError(p.readOnlyError("set modem lines of"))
	}
	f := portwire.Frame{Op: portwire.OpModem, Mask: output}
	if on {
		f.On = output
	}
	return p.ask(f)
}

// GetModemStatusBits returns the modem inputs. The device's node tells each
// change of them at once, so this asks nobody and is as old as half a round
// trip. A device without modem lines gives a PortError of
// serial.FunctionNotImplemented.
func (p *Port) GetModemStatusBits() (*serial.ModemStatusBits, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := false
	timer := time.AfterFunc(modemPatience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.changed.Broadcast()
	})
	defer timer.Stop()
	for p.state.Mask == 0 && p.state.Flags&portwire.HasModem != 0 && !late && !p.closed && p.end == nil {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return nil, p.closedError("read modem lines of")
	case p.end != nil:
		return nil, portError(p.end)
	case p.state.Mask == 0:
		return nil, portError(Errorf(Unsupported, "", "read modem lines of device %q: it has none", p.device))
	}
	on := p.state.On
	return &serial.ModemStatusBits{CTS: on.Has(line.CTS), DSR: on.Has(line.DSR), RI: on.Has(line.RI), DCD: on.Has(line.DCD)}, nil
}

// Break sends a break of this length, timed at the device, and returns after it.
// At most 10 s; less than 1 ms is 1 ms.
func (p *Port) Break(length time.Duration) error {
	if p.readOnly {
		return portError(p.readOnlyError("send break to"))
	}
	ms := min(max(length.Milliseconds(), 1), math.MaxUint32)
	return p.ask(portwire.Frame{Op: portwire.OpBreak, Count: uint32(ms)})
}

// Reset runs a reset recipe of the device's profile on its node, where the
// timing holds, and returns after it.
func (p *Port) Reset(recipe string) error {
	if p.readOnly {
		return portError(p.readOnlyError("reset"))
	}
	return p.ask(portwire.Frame{Op: portwire.OpReset, Text: recipe})
}
