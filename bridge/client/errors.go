package client

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Code says what kind of failure an Error is. Codes are numbered, append-only,
// and travel as words. A Code is itself an error, so that a caller can test
// for it: errors.Is(err, client.NotFound).
type Code int

// The codes. Each has one exit code of the serialspan command (ExitCode).
const (
	// Failed: it was tried and did not work.
	Failed Code = 1
	// Invalid: the request makes no sense as written.
	Invalid Code = 2
	// NotFound: there is no such device, node or attachment.
	NotFound Code = 3
	// Busy: another consumer has the device.
	Busy Code = 4
	// Refused: it is not allowed.
	Refused Code = 5
	// Away: the device is known, but its node or itself is not there now.
	Away Code = 6
	// Ambiguous: the name fits more than one.
	Ambiguous Code = 7
	// Kicked: another consumer took the device.
	Kicked Code = 8
	// Exists: what should be made is there already.
	Exists Code = 9
	// Stopping: the agent is shutting down.
	Stopping Code = 10
	// Unsupported: the device, or the version of an agent, has no such thing.
	Unsupported Code = 11
)

type codeFacts struct {
	code Code
	word string
	http int
	exit int
}

// codeTable returns what each code is called and mapped to.
func codeTable() []codeFacts {
	return []codeFacts{
		{Failed, "failed", http.StatusInternalServerError, 1},
		{Invalid, "invalid", http.StatusBadRequest, 2},
		{NotFound, "not-found", http.StatusNotFound, 3},
		{Busy, "busy", http.StatusConflict, 4},
		{Refused, "refused", http.StatusForbidden, 4},
		{Away, "away", http.StatusServiceUnavailable, 3},
		{Ambiguous, "ambiguous", http.StatusConflict, 3},
		{Kicked, "kicked", http.StatusConflict, 4},
		{Exists, "exists", http.StatusConflict, 4},
		{Stopping, "stopping", http.StatusServiceUnavailable, 1},
		{Unsupported, "unsupported", http.StatusNotImplemented, 1},
	}
}

// facts returns the row of c; unknown codes of a newer agent are failures.
func (c Code) facts() codeFacts {
	table := codeTable()
	i := slices.IndexFunc(table, func(f codeFacts) bool { return f.code == c })
	return table[max(i, 0)]
}

// String returns the word that travels.
func (c Code) String() string { return c.facts().word }

// Error implements error.
func (c Code) Error() string { return c.String() }

// ExitCode returns what the serialspan command exits with: 1 failed, 2 wrong
// usage, 3 not found, 4 busy or refused.
func (c Code) ExitCode() int { return c.facts().exit }

// HTTPStatus returns the status that an error answer has.
func (c Code) HTTPStatus() int { return c.facts().http }

// MarshalText implements encoding.TextMarshaler.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. An unknown word, from a
// newer agent, is Failed.
func (c *Code) UnmarshalText(text []byte) error {
	*c = Failed
	for _, f := range codeTable() {
		if f.word == string(text) {
			*c = f.code
		}
	}
	return nil
}

// Error is a failure that the agent told. It unwraps to its Code.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"`           // "verb object: cause"
	Next string `json:"next,omitempty"` // what the user can do
}

// Errorf makes an Error whose text is formatted as fmt.Sprintf does; next may
// be empty.
func Errorf(code Code, next, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...), Next: next}
}

// Error returns text and next step in one line.
func (e *Error) Error() string {
	if e.Next == "" {
		return e.Text
	}
	return e.Text + "; " + e.Next
}

// Unwrap returns the code.
func (e *Error) Unwrap() error { return e.Code }

// AsError returns the Error in err's chain, or a Failed one with err's text.
// It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if found, ok := errors.AsType[*Error](err); ok {
		return found
	}
	if code, ok := errors.AsType[Code](err); ok {
		return &Error{Code: code, Text: err.Error()}
	}
	return &Error{Code: Failed, Text: err.Error()}
}

// ErrNoAgent is what a NoAgentError unwraps to.
var ErrNoAgent = errors.New("no agent")

// NoAgentError says that nobody listens on the control socket.
type NoAgentError struct {
	Socket string
	Cause  error // what the system said
}

// Error names the socket and the next step.
func (e *NoAgentError) Error() string {
	return fmt.Sprintf("no agent at %s: start it with \"serialspan agent\"", e.Socket)
}

// Unwrap returns ErrNoAgent and the cause.
func (e *NoAgentError) Unwrap() []error { return []error{ErrNoAgent, e.Cause} }
