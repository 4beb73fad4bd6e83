package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/serialspan/serialspan/bridge/line"
)

// consoleBauds are what Ctrl-U and Ctrl-D go through, in bit/s.
var consoleBauds = []uint32{300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600}

// lineOf reads a baud rate, which leaves the rest as it is, or line settings.
func lineOf(text string, now line.Settings) (line.Settings, error) {
	baud, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return line.Parse(text)
	}
	if now.IsZero() {
		now = line.Default()
	}
	now.Baud = uint32(baud)
	return now, now.Check()
}

// nextLine returns what follows the settings that are in force, by key.
func nextLine(s line.Settings, key action) line.Settings {
	if s.IsZero() {
		s = line.Default()
	}
	switch key {
	case ctrlU:
		if i, found := slices.BinarySearch(consoleBauds, s.Baud); !found && i < len(consoleBauds) {
			s.Baud = consoleBauds[i]
		} else if i+1 < len(consoleBauds) {
			s.Baud = consoleBauds[i+1]
		}
	case ctrlD:
		if i, _ := slices.BinarySearch(consoleBauds, s.Baud); i > 0 {
			s.Baud = consoleBauds[i-1]
		}
	case ctrlY:
		s.Parity = (s.Parity + 1) % (line.ParitySpace + 1)
	case ctrlI:
		if s.DataBits--; s.DataBits < 5 {
			s.DataBits = 8
		}
		return withStop(s, s.StopBits != line.StopOne)
	case ctrlJ:
		return withStop(s, s.StopBits == line.StopOne)
	case ctrlF:
		s.Flow = (s.Flow + 1) % (line.FlowXONXOFF + 1)
	}
	return s
}

// withStop gives s one stop bit, or the longer one that goes with its data bits.
func withStop(s line.Settings, long bool) line.Settings {
	switch {
	case !long:
		s.StopBits = line.StopOne
	case s.DataBits == 5:
		s.StopBits = line.StopOneAndHalf
	default:
		s.StopBits = line.StopTwo
	}
	return s
}

// modemText writes the modem lines that are known: "DTR on, RTS off, CTS on".
func modemText(known, on line.ModemLines) string {
	if known == 0 {
		return "no modem lines"
	}
	var parts []string
	for _, one := range []line.ModemLines{line.DTR, line.RTS, line.CTS, line.DSR, line.DCD, line.RI} {
		if known.Has(one) {
			parts = append(parts, fmt.Sprintf("%s %s", strings.ToUpper(one.String()), onOff(on.Has(one))))
		}
	}
	return strings.Join(parts, ", ")
}
