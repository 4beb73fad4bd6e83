// Package naming says what devices and nodes may be called, and how the template
// of a rule becomes the name of a device. It is values only.
package naming

import "fmt"

// MaxLen is the longest name, bytes.
const MaxLen = 63

// Valid reports whether Check finds nothing wrong with s.
func Valid(s string) bool { return Check(s) == nil }

// Check says what is wrong with s as the name of a device or node, nil for
// nothing: a name has 1 to MaxLen letters, digits, '.', '_' and '-' of ASCII,
// the first a letter or digit, so that it survives shells, URLs, file names and
// name@node.
func Check(s string) error {
	if len(s) == 0 || len(s) > MaxLen {
		return fmt.Errorf("the name has %d bytes, want 1 to %d", len(s), MaxLen)
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return fmt.Errorf("%q cannot stand at position %d of a name; use letters, digits, '-', '_' and '.'", c, i+1)
		}
	}
	return nil
}
