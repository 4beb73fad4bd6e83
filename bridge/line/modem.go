package line

import (
	"errors"
	"fmt"
	"strings"
)

// ModemLines is a set of modem lines: those that are on, or those that are
// meant. The bits are SerialSpan's own and may go over the wire.
type ModemLines uint8

// The modem lines. DTR and RTS go out to the device, the others come in.
const (
	DTR ModemLines = 1 << iota
	RTS
	CTS
	DSR
	DCD
	RI
)

// ModemOutputs are the lines that a host drives.
const ModemOutputs = DTR | RTS

// ErrNoSignals is wrapped when a port has no modem lines or break: a PTY.
var ErrNoSignals = errors.New("the port has no DTR, RTS and break")

var modemNames = [...]string{"dtr", "rts", "cts", "dsr", "dcd", "ri"}

// Has tells whether all the given lines are in the set.
func (m ModemLines) Has(lines ModemLines) bool { return m&lines == lines }

// String returns the names of the lines in the set, as in "dtr+cts", or "none".
func (m ModemLines) String() string {
	var names []string
	for i, name := range modemNames {
		if m&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// ErrDrive is wrapped by the errors of ParseDrive.
var ErrDrive = errors.New("not a modem line setting")

// Drive is what is wanted of a modem output.
type Drive uint8

// The drives. DriveUnchanged, the zero value, leaves the line as opening the
// port left it; Linux raises DTR and RTS at every open.
const (
	DriveUnchanged Drive = iota
	DriveOn
	DriveOff
)

var driveTexts = [...]string{"unchanged", "on", "off"}

// ParseDrive reads "on", "off" and "unchanged"; an empty text is unchanged.
func ParseDrive(text string) (Drive, error) {
	if text == "" {
		return DriveUnchanged, nil
	}
	for i, name := range driveTexts {
		if text == name {
			return Drive(i), nil
		}
	}
	return 0, fmt.Errorf("parse modem line %.32q: %w: want on, off or unchanged", text, ErrDrive)
}

// String returns the text that ParseDrive reads.
func (d Drive) String() string {
	if int(d) < len(driveTexts) {
		return driveTexts[d]
	}
	return fmt.Sprintf("invalid(%d)", uint8(d))
}
