package rfc2217

import "github.com/serialspan/serialspan/bridge/line"

// command is a COM-PORT command as the client sends it; the server's answer
// has the number 100 higher (RFC 2217 section 3).
type command byte

const (
	commandSignature command = iota
	commandBaud
	commandDataSize
	commandParity
	commandStopSize
	commandControl
	commandLineState
	commandModemState
	commandSuspend
	commandResume
	commandLineMask
	commandModemMask
	commandPurge

	fromServer = 100
)

// LineState is a set of the line state bits of RFC 2217: levels and, from
// LineOverrun to LineBreak and LineTimeout, events.
type LineState uint8

// The line state bits, those of the status register of a 16550 UART.
const (
	LineDataReady LineState = 1 << iota
	LineOverrun
	LineParityError
	LineFramingError
	LineBreak
	LineHoldingEmpty  // the transmitter's holding register
	LineShiftingEmpty // the transmitter's shift register: all was sent
	LineTimeout
)

const lineEvents = LineOverrun | LineParityError | LineFramingError | LineBreak | LineTimeout

// ModemState is a set of the modem state bits of RFC 2217: four levels, and
// which of them changed since the last report.
type ModemState uint8

// The modem state bits, those of the modem status register of a 16550 UART.
const (
	ModemDeltaCTS   ModemState = 1 << iota
	ModemDeltaDSR              // changed
	ModemTrailingRI            // went from on to off
	ModemDeltaCD
	ModemCTS
	ModemDSR
	ModemRI
	ModemCD
)

// modemState returns the levels of the input lines.
func modemState(lines line.ModemLines) ModemState {
	var s ModemState
	for _, l := range [...]struct {
		line line.ModemLines
		bit  ModemState
	}{{line.CTS, ModemCTS}, {line.DSR, ModemDSR}, {line.RI, ModemRI}, {line.DCD, ModemCD}} {
		if lines.Has(l.line) {
			s |= l.bit
		}
	}
	return s
}

// Purge says which buffers to empty, from the device's point of view on the
// network: PurgeReceive what came from the device, PurgeTransmit what goes to
// it. They are bits.
type Purge uint8

// The values of PURGE-DATA.
const (
	PurgeReceive  Purge = 1
	PurgeTransmit Purge = 2
	PurgeBoth     Purge = PurgeReceive | PurgeTransmit
)

// control is the value of SET-CONTROL.
type control byte

const (
	controlFlowQuery control = iota
	controlFlowNone
	controlFlowXONXOFF
	controlFlowRTSCTS
	controlBreakQuery
	controlBreakOn
	controlBreakOff
	controlDTRQuery
	controlDTROn
	controlDTROff
	controlRTSQuery
	controlRTSOn
	controlRTSOff
	controlInFlowQuery
	controlInFlowNone
	controlInFlowXONXOFF
	controlInFlowHardware
	controlFlowDCD
	controlInFlowDTR
	controlFlowDSR
)

// The values of SET-PARITY, SET-STOPSIZE and SET-CONTROL's flow control, each
// at the place of its value in package line.
var (
	parities  = [...]byte{line.ParityNone: 1, line.ParityOdd: 2, line.ParityEven: 3, line.ParityMark: 4, line.ParitySpace: 5}
	stopSizes = [...]byte{line.StopOne: 1, line.StopTwo: 2, line.StopOneAndHalf: 3}
	flows     = [...]control{line.FlowNone: controlFlowNone, line.FlowXONXOFF: controlFlowXONXOFF, line.FlowRTSCTS: controlFlowRTSCTS}
	inFlows   = [...]control{line.FlowNone: controlInFlowNone, line.FlowXONXOFF: controlInFlowXONXOFF, line.FlowRTSCTS: controlInFlowHardware}
)

// ciscoBauds are the one-byte codes of Cisco IOS for SET-BAUDRATE, by code; 0:
// no such code.
var ciscoBauds = [...]uint32{
	3: 300, 4: 600, 5: 1200, 6: 2400, 7: 4800, 8: 9600, 10: 19200, 12: 38400, 13: 57600, 14: 115200, 15: 230400,
}

// ciscoBaud returns the rate of a code, 0 if there is none.
func ciscoBaud(code byte) uint32 {
	if int(code) < len(ciscoBauds) {
		return ciscoBauds[code]
	}
	return 0
}

// ciscoCode returns the code of a rate, 0 if it has none.
func ciscoCode(baud uint32) byte {
	for code, b := range ciscoBauds {
		if b == baud && b != 0 {
			return byte(code)
		}
	}
	return 0
}
