package line

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSettings is wrapped by every error of Parse and Settings.Check.
var ErrSettings = errors.New("not line settings")

// Parity is the parity bit of a character.
type Parity uint8

// The parities, in the order of their text letters "noems".
const (
	ParityNone Parity = iota
	ParityOdd
	ParityEven
	ParityMark
	ParitySpace
)

const parityLetters = "noems"

// StopBits is the length of the stop bit.
type StopBits uint8

// The stop bits. StopOne is the zero value.
const (
	StopOne StopBits = iota
	StopOneAndHalf
	StopTwo
)

// Flow is the flow control that the driver does on its own.
type Flow uint8

// The flow controls. FlowNone is the zero value.
const (
	FlowNone    Flow = iota
	FlowRTSCTS       // hardware, by the RTS and CTS lines
	FlowXONXOFF      // software, by the bytes 0x11 and 0x13 in both directions
)

// Settings are the line settings of a serial line, comparable with ==. The
// zero value means "not given": Check refuses it, its text form is empty.
type Settings struct {
	Baud     uint32 // bit/s, from 1; rates without a Unix constant are allowed
	DataBits uint8  // 5 to 8
	Parity   Parity
	StopBits StopBits
	Flow     Flow
}

// Default returns 115200n81, what most USB sticks want.
func Default() Settings { return Settings{Baud: 115200, DataBits: 8} }

// Parse reads the text form, in lower or upper case. An empty text is an
// error; UnmarshalText takes it for the zero value.
func Parse(text string) (Settings, error) {
	lower := strings.ToLower(text)
	frame, flow, hasFlow := strings.Cut(lower, "/")
	digits := len(frame) - len(strings.TrimLeft(frame, "0123456789"))
	number, rest := frame[:digits], frame[digits:]
	if number == "" || len(rest) < 3 {
		return Settings{}, refuse(text, `want a form like "115200n81"`)
	}
	baud, err := strconv.ParseUint(number, 10, 32)
	if err != nil || number[0] == '0' {
		return Settings{}, refuse(text, "the baud rate must be a whole number from 1 to 4294967295")
	}
	s := Settings{Baud: uint32(baud), DataBits: rest[1] - '0'}
	letter := strings.IndexByte(parityLetters, rest[0])
	if letter < 0 {
		return Settings{}, refuse(text, "the parity must be one of n, o, e, m, s")
	}
	s.Parity = Parity(letter)
	switch rest[2:] {
	case "1":
		s.StopBits = StopOne
	case "1.5":
		s.StopBits = StopOneAndHalf
	case "2":
		s.StopBits = StopTwo
	default:
		return Settings{}, refuse(text, "the stop bits must be 1, 1.5 or 2")
	}
	switch {
	case !hasFlow:
	case flow == "rtscts":
		s.Flow = FlowRTSCTS
	case flow == "xonxoff":
		s.Flow = FlowXONXOFF
	default:
		return Settings{}, refuse(text, "the flow control must be rtscts or xonxoff")
	}
	if err := s.Check(); err != nil {
		return Settings{}, fmt.Errorf("parse line settings %.32q: %w", text, err)
	}
	return s, nil
}

func refuse(text, why string) error {
	return fmt.Errorf("parse line settings %.32q: %w: %s", text, ErrSettings, why)
}

// Check tells whether the settings are complete and within bounds; its errors
// wrap ErrSettings. Whether a device can do them is the driver's business.
func (s Settings) Check() error {
	switch {
	case s.Baud == 0:
		return fmt.Errorf("%w: the baud rate is missing", ErrSettings)
	case s.DataBits < 5 || s.DataBits > 8:
		return fmt.Errorf("%w: the data bits must be 5 to 8", ErrSettings)
	case s.Parity > ParitySpace:
		return fmt.Errorf("%w: unknown parity %d", ErrSettings, s.Parity)
	case s.StopBits > StopTwo:
		return fmt.Errorf("%w: unknown stop bits %d", ErrSettings, s.StopBits)
	case s.StopBits == StopOneAndHalf && s.DataBits != 5:
		return fmt.Errorf("%w: 1.5 stop bits exist with 5 data bits only", ErrSettings)
	case s.StopBits == StopTwo && s.DataBits == 5:
		return fmt.Errorf("%w: with 5 data bits the longer stop bit is 1.5", ErrSettings)
	case s.Flow > FlowXONXOFF:
		return fmt.Errorf("%w: unknown flow control %d", ErrSettings, s.Flow)
	}
	return nil
}

// IsZero tells whether no settings are given.
func (s Settings) IsZero() bool { return s == Settings{} }

// String returns the text form that Parse reads, empty for the zero value.
// Settings that Check refuses print in a form that Parse refuses too.
func (s Settings) String() string {
	if s.IsZero() {
		return ""
	}
	if err := s.Check(); err != nil {
		return fmt.Sprintf("invalid(%d,%d,%d,%d,%d)", s.Baud, s.DataBits, s.Parity, s.StopBits, s.Flow)
	}
	b := make([]byte, 0, len("4294967295n51.5/xonxoff"))
	b = strconv.AppendUint(b, uint64(s.Baud), 10)
	b = append(b, parityLetters[s.Parity], '0'+s.DataBits)
	b = append(b, [...]string{"1", "1.5", "2"}[s.StopBits]...)
	b = append(b, [...]string{"", "/rtscts", "/xonxoff"}[s.Flow]...)
	return string(b)
}

// MarshalText returns the text form; the zero value gives an empty text.
func (s Settings) MarshalText() ([]byte, error) {
	if !s.IsZero() {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("write line settings: %w", err)
		}
	}
	return []byte(s.String()), nil
}

// UnmarshalText is Parse, but an empty text gives the zero value.
func (s *Settings) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Settings{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
