package configs

import (
	"fmt"
	"time"
)

// Age is how old something may be: a duration, or off for any age. Zero: not
// said; negative: off.
type Age time.Duration

// AgeOff is any age.
const AgeOff Age = -1

// maxAge is the greatest Age, as for durations.
const maxAge = 24 * time.Hour

// String returns the text of the file, "" for zero.
func (a Age) String() string {
	switch {
	case a == 0:
		return ""
	case a < 0:
		return "off"
	}
	return time.Duration(a).String()
}

// MarshalText implements encoding.TextMarshaler.
func (a Age) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Age) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*a = AgeOff
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 || d > maxAge {
		return fmt.Errorf("%q is neither off nor a duration between 0 and 24h; write for example 1500ms", text)
	}
	*a = Age(d)
	return nil
}
