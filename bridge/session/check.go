package session

import (
	"fmt"
	"unicode/utf8"
)

func (o Open) check() error {
	switch {
	case o.Protocol == 0:
		return fmt.Errorf("no protocol version")
	case o.Device == "" || len(o.Device) > MaxName || !validText(o.Device):
		return fmt.Errorf("device name of %d bytes, want text of 1 to %d", len(o.Device), MaxName)
	case o.ID == ID{}:
		return fmt.Errorf("no session ID")
	case !o.Resume && o.Next != 0:
		return fmt.Errorf("a new session that expects offset %d", o.Next)
	case o.Take > TakeForce:
		return fmt.Errorf("take %d is not known", o.Take)
	case o.Window == 0:
		return fmt.Errorf("no window")
	case len(o.Replaces) > MaxReplaces:
		return fmt.Errorf("replaces %d sessions, want at most %d", len(o.Replaces), MaxReplaces)
	case len(o.Line) > 64 || !validText(o.Line) || len(o.Kind) > 32 || !validText(o.Kind):
		return fmt.Errorf("line settings of %d and kind of %d bytes, want text of at most 64 and 32", len(o.Line), len(o.Kind))
	}
	return nil
}

func (a Accept) check() error {
	switch {
	case a.Protocol == 0:
		return fmt.Errorf("no protocol version")
	case a.ID == ID{}:
		return fmt.Errorf("no session ID")
	case !a.Resumed && a.Next != 0:
		return fmt.Errorf("a new session that expects offset %d", a.Next)
	case a.Window == 0:
		return fmt.Errorf("no window")
	case len(a.Line) > 64 || !validText(a.Line):
		return fmt.Errorf("line settings of %d bytes, want text of at most 64", len(a.Line))
	case len(a.Capabilities) > 16:
		return fmt.Errorf("%d capabilities, at most 16", len(a.Capabilities))
	}
	for _, word := range a.Capabilities {
		if len(word) > 32 || !validText(word) {
			return fmt.Errorf("capability of %d bytes, want text of at most 32", len(word))
		}
	}
	return nil
}

// validText is what CBOR (RFC 8949 section 3.1, major type 3) calls text.
func validText(s string) bool { return utf8.ValidString(s) }
