package rfc2217

import (
	"encoding/binary"

	"github.com/serialspan/serialspan/bridge/line"
)

// tell answers with the value in force that SET command c is about; flow
// control for SET-CONTROL.
func (m *Machine) tell(c command) {
	s := m.state.Line
	switch c {
	case commandBaud:
		if m.cisco {
			m.answer(c, ciscoCode(s.Baud))
		} else {
			m.answer(c, binary.BigEndian.AppendUint32(nil, s.Baud)...)
		}
	case commandDataSize:
		m.answer(c, s.DataBits)
	case commandParity:
		m.answer(c, parities[s.Parity])
	case commandStopSize:
		m.answer(c, stopSizes[s.StopBits])
	case commandControl:
		m.answer(c, byte(flows[s.Flow]))
	}
}

func (m *Machine) tellBreak() {
	if m.state.Break {
		m.answer(commandControl, byte(controlBreakOn))
	} else {
		m.answer(commandControl, byte(controlBreakOff))
	}
}

func (m *Machine) tellOutput(output line.ModemLines) {
	value := controlDTROn
	if output == line.RTS {
		value = controlRTSOn
	}
	if !m.state.Outputs.Has(output) {
		value++
	}
	m.answer(commandControl, byte(value))
}

// Correct is told what is really in force where that is not what Grant
// promised, or what someone else changed. The client is told each value that
// differs from what it was told last. A failure may be reported after the
// client has asked for something else already; the last call counts.
func (m *Machine) Correct(really State) {
	before := m.state
	m.state = really
	if really.Line.Check() != nil {
		m.state.Line = before.Line
	}
	if !m.active {
		return
	}
	was, is := before.Line, m.state.Line
	for _, field := range [...]struct {
		differs bool
		command command
	}{
		{was.Baud != is.Baud, commandBaud},
		{was.DataBits != is.DataBits, commandDataSize},
		{was.Parity != is.Parity, commandParity},
		{was.StopBits != is.StopBits, commandStopSize},
		{was.Flow != is.Flow, commandControl},
	} {
		if field.differs {
			m.tell(field.command)
		}
	}
	if before.Break != m.state.Break {
		m.tellBreak()
	}
	for _, output := range [...]line.ModemLines{line.DTR, line.RTS} {
		if (before.Outputs^m.state.Outputs)&output != 0 {
			m.tellOutput(output)
		}
	}
}

// Modem is told the modem lines that are on; outputs among them are ignored.
// The client hears of it at once if a bit that its mask has changed: a level,
// up or down, or a mark of change. What it hears is cut to the mask.
func (m *Machine) Modem(lines line.ModemLines) {
	before, now := m.modem, modemState(lines)
	changed := (before ^ now) & (ModemCTS | ModemDSR | ModemRI | ModemCD)
	marks := changed >> 4
	if now&ModemRI != 0 {
		marks &^= ModemTrailingRI
	}
	m.modemLines = lines
	m.modem = now | marks | before&^(ModemCTS|ModemDSR|ModemRI|ModemCD)
	if m.active && (changed|marks)&m.modemMask != 0 {
		m.tellModem(m.modemMask)
	}
}

// tellModem sends the modem state cut to mask and forgets what changed. A
// poll has no mask: it asks for the state.
func (m *Machine) tellModem(mask ModemState) {
	m.answer(commandModemState, byte(m.modem&mask))
	m.modem = modemState(m.modemLines)
}

// LineState is told the levels (data ready, transmitter empty) that are on,
// and events (overrun, parity, framing, break, time-out) since the last call.
// The client hears of it at once if a level that its mask has went on, or if
// it has one of the events.
func (m *Machine) LineState(s LineState) {
	news := s &^ (m.line &^ lineEvents)
	m.line = s | m.line&lineEvents
	if m.active && news&m.lineMask != 0 {
		m.tellLine(m.lineMask)
	}
}

// tellLine sends the line state cut to mask and forgets the events.
func (m *Machine) tellLine(mask LineState) {
	m.answer(commandLineState, byte(m.line&mask))
	m.line &^= lineEvents
}

// Suspend asks the client to send no data until Resume. TCP holds it back as
// well when the caller stops reading, but then its commands wait too. pyserial
// does not heed it.
func (m *Machine) Suspend() {
	if m.active {
		m.answer(commandSuspend)
	}
}

// Resume ends Suspend.
func (m *Machine) Resume() {
	if m.active {
		m.answer(commandResume)
	}
}

// Outputs is told how those outputs of mask stand that the client has not set.
// The client is not told of it: pyserial takes an unasked SET-CONTROL for the
// answer to one of its own, and gives up when that is another.
func (m *Machine) Outputs(mask, on line.ModemLines) {
	mask &= line.ModemOutputs
	m.state.Outputs = m.state.Outputs&^mask | on&mask
}
