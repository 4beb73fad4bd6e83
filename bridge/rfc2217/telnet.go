package rfc2217

// Telnet commands, RFC 854, of which the last five begin a longer sequence.
const (
	se   = 240
	nop  = 241
	dm   = 242
	brk  = 243
	ayt  = 246
	sb   = 250
	will = 251
	wont = 252
	do   = 253
	dont = 254
	iac  = 255
)

// Telnet options: RFC 856, 857, 858, 2217.
const (
	optionBinary  = 0
	optionEcho    = 1
	optionSGA     = 3
	optionComPort = 44
)

// agreement is the state of one side of an option, RFC 1143 without its
// queues: this server never changes its mind.
type agreement uint8

const (
	refused agreement = iota // not in force, and not to be
	off                      // not in force, agreed when asked for
	asked                    // we asked, no answer yet
	on
)

// option is the state of an option: us is what WILL and DO say of this side,
// them of the client's.
type option struct {
	code     byte
	us, them agreement
}

// options are those that the server knows.
type options [4]option

// Indexes of options.
const (
	ofBinary = iota
	ofEcho
	ofSGA
	ofComPort
)

// opening is what the server says first. It does not say WILL COM-PORT: it is
// the client that sends commands (RFC 2217 section 2).
var opening = []byte{
	iac, will, optionSGA, iac, do, optionSGA, iac, will, optionEcho,
	iac, do, optionBinary, iac, will, optionBinary, iac, do, optionComPort,
}

// openingOptions is the state after opening.
func openingOptions() options {
	return options{
		ofBinary:  {optionBinary, asked, asked},
		ofEcho:    {optionEcho, asked, refused},
		ofSGA:     {optionSGA, asked, asked},
		ofComPort: {optionComPort, off, asked},
	}
}

// negotiate takes IAC verb code and returns the verb of the answer, 0 for
// none.
func (o *options) negotiate(verb, code byte) byte {
	var us, them *agreement
	for i := range o {
		if o[i].code == code {
			us, them = &o[i].us, &o[i].them
		}
	}
	unknown := refused
	if us == nil {
		us, them = &unknown, &unknown
	}
	switch verb {
	case will:
		return them.enable(do, dont)
	case wont:
		return them.disable(dont)
	case do:
		return us.enable(will, wont)
	default:
		return us.disable(wont)
	}
}

// enable is told that the peer wants the option on, or agrees to it.
func (a *agreement) enable(yes, no byte) byte {
	switch *a {
	case refused:
		return no
	case off:
		*a = on
		return yes
	case asked:
		*a = on
	}
	return 0
}

// disable is told that the peer wants the option off, or refuses it.
func (a *agreement) disable(no byte) byte {
	switch *a {
	case asked:
		*a = off
	case on:
		*a = off
		return no
	}
	return 0
}
