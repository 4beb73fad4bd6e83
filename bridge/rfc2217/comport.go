package rfc2217

import (
	"encoding/binary"

	"github.com/serialspan/serialspan/bridge/line"
)

// subnegotiation takes what stood between IAC SB and IAC SE. COM-PORT
// commands count only while COM-PORT is agreed (RFC 855).
func (m *Machine) subnegotiation() Request {
	if m.valueLen < 2 || m.valueLen > maxValue || m.value[0] != optionComPort || !m.active {
		return Request{}
	}
	value := m.value[2:m.valueLen]
	first := byte(0)
	if len(value) > 0 {
		first = value[0]
	}
	switch c := command(m.value[1]); c {
	case commandSignature:
		if len(value) > 0 {
			return Request{Kind: KindSignature, Signature: string(value)}
		}
		m.answer(c, []byte(m.config.Signature)...)
	case commandBaud:
		return m.setBaud(value)
	case commandDataSize:
		return m.setLine(c, func(s *line.Settings) bool { return setDataSize(s, first) })
	case commandParity:
		return m.setLine(c, func(s *line.Settings) bool { return choose(parities[:], first, &s.Parity) })
	case commandStopSize:
		return m.setLine(c, func(s *line.Settings) bool { return choose(stopSizes[:], first, &s.StopBits) })
	case commandControl:
		return m.control(control(first))
	case commandLineState:
		m.tellLine(0xff)
	case commandModemState:
		m.tellModem(0xff)
	case commandSuspend, commandResume:
		m.suspended = c == commandSuspend
		if m.suspended {
			return Request{Kind: KindSuspend}
		}
		return Request{Kind: KindResume}
	case commandLineMask, commandModemMask:
		return m.setMask(c, value)
	case commandPurge:
		return m.purge(Purge(first))
	}
	return Request{}
}

// answer appends a command of the server.
func (m *Machine) answer(c command, value ...byte) {
	m.out = append(m.out, iac, sb, optionComPort, byte(c)+fromServer)
	for _, b := range value {
		m.out = append(m.out, b)
		if b == iac {
			m.out = append(m.out, iac)
		}
	}
	m.out = append(m.out, iac, se)
}

// grant puts wanted, or what the caller allows of it, in force.
func (m *Machine) grant(wanted State) {
	if m.config.Grant != nil {
		wanted = m.config.Grant(m.state, wanted)
	}
	if wanted.Line.Check() != nil {
		wanted.Line = m.state.Line
	}
	m.state = wanted
}

// setLine changes the line settings by set, which reports false for a query
// or an unknown value, and answers with the field of c.
func (m *Machine) setLine(c command, set func(*line.Settings) bool) Request {
	before, wanted := m.state.Line, m.state
	if set(&wanted.Line) && wanted.Line.Check() == nil && wanted.Line != before {
		m.grant(wanted)
	}
	m.tell(c)
	if m.state.Line != before {
		return Request{Kind: KindLine}
	}
	return Request{}
}

func (m *Machine) setBaud(value []byte) Request {
	m.cisco = len(value) == 1
	var baud uint32
	switch {
	case m.cisco:
		baud = ciscoBaud(value[0])
	case len(value) >= 4:
		baud = binary.BigEndian.Uint32(value)
	}
	return m.setLine(commandBaud, func(s *line.Settings) bool {
		s.Baud = baud
		return baud != 0
	})
}

func setDataSize(s *line.Settings, size byte) bool {
	s.DataBits = size
	switch {
	case size == 5 && s.StopBits == line.StopTwo:
		s.StopBits = line.StopOneAndHalf
	case size > 5 && s.StopBits == line.StopOneAndHalf:
		s.StopBits = line.StopTwo
	}
	return size != 0
}

// choose sets to to the index of value in values; false if it is not there.
func choose[V, T ~uint8](values []V, value V, to *T) bool {
	for i, v := range values {
		if v == value {
			*to = T(i)
			return true
		}
	}
	return false
}

// control takes SET-CONTROL.
func (m *Machine) control(c control) Request {
	switch c {
	case controlFlowQuery, controlFlowNone, controlFlowXONXOFF, controlFlowRTSCTS, controlFlowDCD, controlFlowDSR:
		return m.setLine(commandControl, func(s *line.Settings) bool { return choose(flows[:], c, &s.Flow) })
	case controlBreakQuery, controlBreakOn, controlBreakOff:
		return m.setBreak(c)
	case controlDTRQuery, controlDTROn, controlDTROff:
		return m.setOutput(line.DTR, c-controlDTRQuery)
	case controlRTSQuery, controlRTSOn, controlRTSOff:
		return m.setOutput(line.RTS, c-controlRTSQuery)
	case controlInFlowQuery, controlInFlowNone, controlInFlowXONXOFF, controlInFlowHardware, controlInFlowDTR:
		m.answer(commandControl, byte(inFlows[m.state.Line.Flow]))
	}
	return Request{}
}

func (m *Machine) setBreak(c control) Request {
	wanted := m.state
	wanted.Break = c == controlBreakOn
	if c != controlBreakQuery {
		m.grant(wanted)
	}
	m.tellBreak()
	if c != controlBreakQuery && m.state.Break == wanted.Break {
		return Request{Kind: KindBreak}
	}
	return Request{}
}

// setOutput takes the query (0), on (1) or off (2) of an output. It is a
// request even where nothing changes: what the device really has may differ.
func (m *Machine) setOutput(output line.ModemLines, how control) Request {
	wanted := m.state
	switch how {
	case 1:
		wanted.Outputs |= output
	case 2:
		wanted.Outputs &^= output
	}
	if how != 0 {
		m.grant(wanted)
	}
	m.tellOutput(output)
	if how != 0 && (m.state.Outputs^wanted.Outputs)&output == 0 {
		return Request{Kind: KindOutputs, Mask: output}
	}
	return Request{}
}

func (m *Machine) setMask(c command, value []byte) Request {
	switch {
	case len(value) == 0:
	case c == commandLineMask:
		m.lineMask = LineState(value[0])
	default:
		m.modemMask = ModemState(value[0])
	}
	if c == commandLineMask {
		m.answer(c, byte(m.lineMask))
	} else {
		m.answer(c, byte(m.modemMask))
	}
	if len(value) == 0 {
		return Request{}
	}
	return Request{Kind: KindMasks, LineMask: m.lineMask, ModemMask: m.modemMask}
}

// purge answers at once with the buffers that will be emptied, 0 for a value
// that says none.
func (m *Machine) purge(p Purge) Request {
	if p == 0 || p > PurgeBoth {
		m.answer(commandPurge, 0)
		return Request{}
	}
	m.answer(commandPurge, byte(p))
	return Request{Kind: KindPurge, Purge: p}
}
