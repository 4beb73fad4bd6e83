package rfc2217

import (
	"bytes"

	"github.com/serialspan/serialspan/bridge/line"
)

const (
	// maxValue bounds a subnegotiation that is received, option and command
	// included, in bytes; a longer one is skipped. The longest that means
	// something is a signature.
	maxValue = 80
	// maxSignature bounds our signature: gensio takes at most 31 bytes of a
	// command, IAC SB 44 100 included.
	maxSignature = 24
	// DefaultSignature is what the server calls itself.
	DefaultSignature = "SerialSpan"
)

// State is what is in force at the port, or wanted to be.
type State struct {
	Line    line.Settings
	Outputs line.ModemLines // of line.ModemOutputs: those that are on
	Break   bool            // whether a break is being sent
}

// Config is how a Machine begins. The zero value works.
type Config struct {
	// Signature is the answer to SIGNATURE, cut to 24 bytes; empty stands
	// for DefaultSignature.
	Signature string
	// State is in force at first. A Line that is zero stands for 115200n81.
	State State
	// Modem are the input lines that are on at first.
	Modem line.ModemLines
	// Grant returns what will be in force when a client, with inForce in
	// force, wants wanted: wanted if the device can do it, else inForce, or
	// anything between. It is called from Next, must answer at once, without
	// asking the device, and must not call the Machine. Nil grants
	// everything. wanted.Line has passed line.Settings.Check. pyserial sets
	// DTR and RTS at every open and gives up where either is refused.
	Grant func(inForce, wanted State) State
	// BreakOnSync makes a Telnet Synch (IAC DM) a break, as some terminal
	// servers do.
	BreakOnSync bool
}

// Kind tells requests apart.
type Kind uint8

// The kinds of requests. What each says is to be done after all data that
// came before it and before all that comes after.
const (
	// KindNone: there is nothing to do.
	KindNone Kind = iota
	// KindData: Data goes to the device.
	KindData
	// KindLine: State.Line is to be in force.
	KindLine
	// KindOutputs: those of Mask that are in State.Outputs are to be on, the
	// others of Mask off. The client has said nothing of other outputs.
	KindOutputs
	// KindBreak: State.Break says whether a break is to be sent from now on.
	KindBreak
	// KindTimedBreak: a break of the usual length (250 ms) is to be sent.
	KindTimedBreak
	// KindPurge: the buffers that Purge says are to be emptied.
	KindPurge
	// KindSuspend: the client wants no data until KindResume; see
	// Machine.Suspended.
	KindSuspend
	// KindResume: the client wants data again.
	KindResume
	// KindMasks: LineMask and ModemMask are what the client wants to be told.
	KindMasks
	// KindSignature: the client calls itself Signature.
	KindSignature
)

// Request is a piece of what the client sent. Only the fields that its Kind
// names are meant; State is always that in force after it.
type Request struct {
	Kind      Kind
	Data      []byte // aliases what was given to Next
	State     State
	Mask      line.ModemLines
	Purge     Purge
	LineMask  LineState
	ModemMask ModemState
	Signature string // as sent, of at most 78 bytes: not to be trusted
}

// mode is where the decoder is.
type mode uint8

const (
	modeData     mode = iota
	modeCR            // after CR, without BINARY
	modeCommand       // after IAC
	modeOption        // after IAC WILL and the like
	modeValue         // after IAC SB
	modeValueIAC      // after IAC within a subnegotiation
)

// Machine is one connection's server side. Make it with New when the client
// has connected, and write what Output gives first. It is not safe for
// concurrent use.
type Machine struct {
	config  Config
	options options
	mode    mode
	verb    byte // of modeOption

	value    [maxValue]byte
	valueLen int // above maxValue: too long

	out []byte // answers that Output has not given yet

	state     State
	active    bool
	suspended bool
	cisco     bool // the client uses Cisco's codes

	line       LineState // levels, and events not yet told
	lineMask   LineState
	modem      ModemState // levels, and changes not yet told
	modemMask  ModemState
	modemLines line.ModemLines
}

// New begins a connection. The opening negotiation waits in Output.
func New(config Config) *Machine {
	if config.Signature == "" {
		config.Signature = DefaultSignature
	}
	config.Signature = config.Signature[:min(len(config.Signature), maxSignature)]
	if config.State.Line.IsZero() {
		config.State.Line = line.Default()
	}
	return &Machine{
		config:     config,
		options:    openingOptions(),
		out:        append([]byte(nil), opening...),
		state:      config.State,
		modem:      modemState(config.Modem),
		modemLines: config.Modem,
		modemMask:  0xff,
	}
}

// Next takes bytes of the client from the front of p, at least one if there
// is any, and returns the first request in them and how many bytes it took.
// Call it with the rest until nothing is left:
//
//	for len(p) > 0 {
//		request, n := m.Next(p)
//		p = p[n:]
//		…
//	}
//
// Output has the answers afterwards: at most 8 bytes for each byte taken, and
// a signature.
func (m *Machine) Next(p []byte) (Request, int) {
	for n := 0; n < len(p); {
		switch {
		case m.mode == modeCR:
			m.mode = modeData
			if p[n] == 0 {
				n++
			}
		case m.mode == modeData && p[n] != iac:
			end := n + m.data(p[n:])
			return m.request(Request{Kind: KindData, Data: p[n:end]}), end
		case m.mode == modeCommand && p[n] == iac:
			// The second IAC is itself the byte of data.
			m.mode = modeData
			end := n + 1 + m.data(p[n+1:])
			return m.request(Request{Kind: KindData, Data: p[n:end]}), end
		default:
			request := m.take(p[n])
			n++
			if request.Kind != KindNone {
				return m.request(request), n
			}
		}
	}
	return m.request(Request{}), len(p)
}

// request completes r by the state in force.
func (m *Machine) request(r Request) Request {
	r.State = m.state
	return r
}

// data returns how many bytes at the front of p are the application's and
// stand for themselves.
func (m *Machine) data(p []byte) int {
	n := bytes.IndexByte(p, iac)
	if n < 0 {
		n = len(p)
	}
	if m.options[ofBinary].them == on {
		return n
	}
	if cr := bytes.IndexByte(p[:n], '\r'); cr >= 0 {
		m.mode = modeCR
		return cr + 1
	}
	return n
}

// take decodes a byte that is no data.
func (m *Machine) take(b byte) Request {
	switch m.mode {
	case modeData:
		m.mode = modeCommand
	case modeCommand:
		return m.command(b)
	case modeOption:
		m.mode = modeData
		m.negotiate(m.verb, b)
	case modeValue:
		if b == iac {
			m.mode = modeValueIAC
		} else {
			m.store(b)
		}
	case modeValueIAC:
		switch b {
		case iac:
			m.mode = modeValue
			m.store(b)
		case se:
			m.mode = modeData
			return m.subnegotiation()
		default:
			// A sender that forgot IAC SE. The command is worth more than
			// the rest of a broken value.
			return m.command(b)
		}
	}
	return Request{}
}

// command takes the byte after IAC.
func (m *Machine) command(b byte) Request {
	m.mode = modeData
	switch b {
	case sb:
		m.mode = modeValue
		m.valueLen = 0
	case will, wont, do, dont:
		m.mode = modeOption
		m.verb = b
	case ayt:
		// Some visible evidence (RFC 854), but not in the data.
		m.out = append(m.out, iac, nop)
	case brk:
		return Request{Kind: KindTimedBreak}
	case dm:
		if m.config.BreakOnSync {
			return Request{Kind: KindTimedBreak}
		}
	}
	return Request{}
}

func (m *Machine) store(b byte) {
	if m.valueLen < maxValue {
		m.value[m.valueLen] = b
	}
	m.valueLen = min(m.valueLen+1, maxValue+1)
}

func (m *Machine) negotiate(verb, code byte) {
	if answer := m.options.negotiate(verb, code); answer != 0 {
		m.out = append(m.out, iac, answer, code)
	}
	o := m.options[ofComPort]
	active := o.us == on || o.them == on
	if active && !m.active {
		m.active = true
		m.modem = modemState(m.modemLines)
		m.answer(commandModemState, byte(m.modem))
	}
	m.active = active
	if !active {
		m.suspended = false
	}
}

// Output appends the answers and notifications that wait to dst and forgets
// them. They are whole sequences: what AppendData makes may stand before and
// after them, not within.
func (m *Machine) Output(dst []byte) []byte {
	dst = append(dst, m.out...)
	m.out = m.out[:0]
	return dst
}

// AppendData appends the device's data to dst as it goes to the client, at
// most 2 bytes for each. dst and p must not overlap. It is for the caller to
// wait while Suspended.
func (m *Machine) AppendData(dst, p []byte) []byte {
	if m.options[ofBinary].us != on {
		return appendNVT(dst, p)
	}
	for {
		n := bytes.IndexByte(p, iac)
		if n < 0 {
			return append(dst, p...)
		}
		dst = append(append(dst, p[:n+1]...), iac)
		p = p[n+1:]
	}
}

// appendNVT is AppendData without BINARY. CR at the end of p becomes CR NUL
// even if the next data begins with LF: CR NUL LF is the same to the client,
// and nothing has to be held back.
func appendNVT(dst, p []byte) []byte {
	for i, b := range p {
		dst = append(dst, b)
		switch {
		case b == iac:
			dst = append(dst, iac)
		case b == '\r' && (i+1 == len(p) || p[i+1] != '\n'):
			dst = append(dst, 0)
		}
	}
	return dst
}

// Active tells whether COM-PORT is agreed. A client with which it never is
// speaks plain Telnet.
func (m *Machine) Active() bool { return m.active }

// Suspended tells whether the client wants no data for now.
func (m *Machine) Suspended() bool { return m.suspended }

// State returns what is in force as far as the client was told.
func (m *Machine) State() State { return m.state }
