// Package chip reads the control transfers that a driver sends to a USB serial
// chip: what the line settings, DTR, RTS and break are at the device, whatever
// the driver's side believes.
//
// It is values and decoders; it knows no USB host and no transport.
//
// References: USB CDC PSTN subclass 1.2, section 6.3; Silicon Labs AN571
// (CP210x); FTDI's request codes are those of Linux's
// drivers/usb/serial/ftdi_sio.h.
package chip

import (
	"encoding/binary"

	"github.com/serialspan/serialspan/bridge/line"
)

// Setup is the setup packet of a control transfer.
type Setup struct {
	RequestType uint8 // 0x80 is the direction: set is to the host
	Request     uint8
	Value       uint16
	Index       uint16
	Length      uint16
}

// ParseSetup reads the 8 bytes of a setup packet.
func ParseSetup(b [8]byte) Setup {
	return Setup{
		RequestType: b[0], Request: b[1],
		Value: binary.LittleEndian.Uint16(b[2:]), Index: binary.LittleEndian.Uint16(b[4:]), Length: binary.LittleEndian.Uint16(b[6:]),
	}
}

// IsConfiguration tells SET_CONFIGURATION (USB 2.0, section 9.4.7), which is
// when the host begins to bind its driver.
func (s Setup) IsConfiguration() bool { return s.RequestType == 0 && s.Request == 9 }

// IsStandard tells what the host's core sends from what a driver does.
func (s Setup) IsStandard() bool { return s.RequestType&0x60 == 0 }

// ToHost tells whether the transfer reads from the device.
func (s Setup) ToHost() bool { return s.RequestType&0x80 != 0 }

// State is what a chip was told. The zero value is that of a chip that was told
// nothing since it was plugged in.
type State struct {
	Line  line.Settings
	Modem line.ModemLines // of DTR and RTS, those that are on
	Break bool
}

// Decode returns the state after a control transfer to the device; what says
// nothing of it leaves it as it is.
type Decode func(s State, setup Setup, data []byte) State

func (s State) withModem(of line.ModemLines, on bool) State {
	s.Modem &^= of
	if on {
		s.Modem |= of
	}
	return s
}

func stopBits(code byte) line.StopBits {
	return [...]line.StopBits{line.StopOne, line.StopOneAndHalf, line.StopTwo}[min(code, 2)]
}

// CDC requests of a control interface (USB CDC PSTN 1.2, table 13).
const (
	acmInterface           = 0x21 // request type: class, interface, to the device
	acmSetLineCoding       = 0x20
	acmSetControlLineState = 0x22
	acmSendBreak           = 0x23
)

// ACM decodes what a driver tells a CDC-ACM device.
func ACM(s State, setup Setup, data []byte) State {
	if setup.RequestType != acmInterface {
		return s
	}
	switch setup.Request {
	case acmSetLineCoding:
		if len(data) >= 7 {
			s.Line.Baud = binary.LittleEndian.Uint32(data)
			s.Line.StopBits, s.Line.Parity, s.Line.DataBits = stopBits(data[4]), line.Parity(data[5]), data[6]
		}
	case acmSetControlLineState:
		s = s.withModem(line.DTR, setup.Value&1 != 0).withModem(line.RTS, setup.Value&2 != 0)
	case acmSendBreak:
		s.Break = setup.Value != 0 // a time in ms; 0xffff: until 0 comes
	}
	return s
}

// CP210x requests (AN571, section 5).
const (
	cp210xInterface   = 0x41 // request type: vendor, interface, to the device
	cp210xSetLineCtl  = 0x03
	cp210xSetBreak    = 0x05
	cp210xSetMHS      = 0x07
	cp210xSetFlow     = 0x13
	cp210xSetBaudRate = 0x1e
)

// CP210x decodes what a driver tells a CP2101 to CP2109.
func CP210x(s State, setup Setup, data []byte) State {
	if setup.RequestType != cp210xInterface {
		return s
	}
	v := setup.Value
	switch setup.Request {
	case cp210xSetLineCtl:
		s.Line.StopBits, s.Line.Parity, s.Line.DataBits = stopBits(byte(v&0xf)), line.Parity(v>>4&0xf), byte(v>>8)
	case cp210xSetBreak:
		s.Break = v != 0
	case cp210xSetMHS: // bits 8 and 9 say which of bits 0 and 1 are meant
		if v&0x100 != 0 {
			s = s.withModem(line.DTR, v&1 != 0)
		}
		if v&0x200 != 0 {
			s = s.withModem(line.RTS, v&2 != 0)
		}
	case cp210xSetFlow:
		if len(data) >= 8 {
			s = cp210xFlow(s, binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:]))
		}
	case cp210xSetBaudRate:
		if len(data) >= 4 {
			s.Line.Baud = binary.LittleEndian.Uint32(data)
		}
	}
	return s
}

// cp210xFlow decodes ulControlHandshake and ulFlowReplace (AN571, tables 10
// and 11): they hold the state of DTR and RTS too.
func cp210xFlow(s State, handshake, replace uint32) State {
	s = s.withModem(line.DTR, handshake&3 == 1)
	if rts := replace >> 6 & 3; rts != 2 { // 2: the chip moves it
		s = s.withModem(line.RTS, rts == 1)
	}
	s.Line.Flow = line.FlowNone
	if handshake&8 != 0 { // it sends while CTS is on; RTS may be off for good all the same
		s.Line.Flow = line.FlowRTSCTS
	}
	if replace&3 != 0 { // auto transmit, auto receive
		s.Line.Flow = line.FlowXONXOFF
	}
	return s
}

// FTDI requests (ftdi_sio.h).
const (
	ftdiOut         = 0x40 // request type: vendor, device, to the device
	ftdiSetModem    = 1
	ftdiSetFlow     = 2
	ftdiSetBaudRate = 3
	ftdiSetData     = 4
)

// FTDI decodes what a driver tells an FT232B: a chip with a clock of 3 MHz.
func FTDI(s State, setup Setup, _ []byte) State {
	if setup.RequestType != ftdiOut {
		return s
	}
	v := setup.Value
	switch setup.Request {
	case ftdiSetModem: // bits 8 and 9 say which of bits 0 and 1 are meant
		if v&0x100 != 0 {
			s = s.withModem(line.DTR, v&1 != 0)
		}
		if v&0x200 != 0 {
			s = s.withModem(line.RTS, v&2 != 0)
		}
	case ftdiSetFlow:
		s.Line.Flow = line.FlowNone
		switch setup.Index >> 8 {
		case 1:
			s.Line.Flow = line.FlowRTSCTS
		case 4:
			s.Line.Flow = line.FlowXONXOFF
		}
	case ftdiSetBaudRate:
		s.Line.Baud = ftdiBaud(v, setup.Index)
	case ftdiSetData:
		s.Line.DataBits, s.Line.Parity, s.Line.StopBits = byte(v), line.Parity(v>>8&7), stopBits(byte(v>>11&3))
		s.Break = v&0x4000 != 0
	}
	return s
}

// ftdiBaud returns the baud rate of a divisor: 14 bits, and three for eighths
// in an order of their own. 0 and 1 stand for 3 and 2 Mbit/s. The result is
// the rate in Unix's list of which the driver makes this divisor, if any.
func ftdiBaud(value, index uint16) uint32 {
	eighths := [8]uint32{0, 4, 2, 1, 3, 5, 6, 7}[uint32(value>>14)|uint32(index&1)<<2]
	divisor := uint32(value&0x3fff)*8 + eighths
	switch divisor {
	case 0:
		return 3_000_000
	case 8:
		return 2_000_000
	}
	const clock = 24_000_000 // eighths of 3 MHz
	exact := clock / divisor
	for _, usual := range []uint32{300, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 250000, 460800, 921600} {
		if (clock+usual/2)/usual == divisor {
			return usual
		}
	}
	return exact
}
