package configs

import (
	"fmt"
	"io/fs"
	"strconv"
)

// FileMode is a file's permission bits, written in octal. Zero: not set.
type FileMode uint32

// ParseFileMode reads 3 or 4 octal digits, "660" or "0660", without setuid,
// setgid and sticky bits.
func ParseFileMode(s string) (FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) < 3 || len(s) > 4 || n == 0 || n > 0o777 {
		return 0, fmt.Errorf("parse file mode %q: write octal permissions such as \"0660\"", s)
	}
	return FileMode(n), nil
}

// Perm returns the mode as the standard library has it.
func (m FileMode) Perm() fs.FileMode { return fs.FileMode(m) }

// String returns four octal digits, "" for zero.
func (m FileMode) String() string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("%04o", uint32(m))
}

// MarshalText implements encoding.TextMarshaler.
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *FileMode) UnmarshalText(text []byte) error {
	parsed, err := ParseFileMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
