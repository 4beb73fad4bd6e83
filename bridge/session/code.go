package session

import "fmt"

// Code says why a session ended or was not begun. It is an error of its own,
// so that a caller can test errors.Is(err, session.CodeBusy). Numbers are
// append-only; a code this version does not know is kept as it is.
type Code uint64

// The codes of CLOSE.
const (
	CodeNormal       Code = 1  // the other side is done
	CodeNotFound     Code = 2  // the owner has no device of that name
	CodeBusy         Code = 3  // somebody else holds the device; the text says who
	CodeKicked       Code = 4  // a newer consumer took the device; the text says who
	CodeGone         Code = 5  // the device is unplugged or failed
	CodeRefused      Code = 6  // this consumer may not open the device
	CodeProtocol     Code = 7  // the other side met a violation of the protocol
	CodeShuttingDown Code = 8  // the other side's agent stops
	CodeCannotResume Code = 9  // the session to be resumed is not known, or not at these offsets
	CodeMoved        Code = 10 // the device is plugged into another node now; the text says which
	CodeRemoved      Code = 11 // one of the two nodes was removed from the cluster
	CodeWithdrawn    Code = 12 // the owner's configuration does not publish the device any more
)

var codeTexts = map[Code]string{
	CodeNormal:       "closed",
	CodeNotFound:     "device not found",
	CodeBusy:         "device is busy",
	CodeKicked:       "device was taken by another consumer",
	CodeGone:         "device is gone",
	CodeRefused:      "access refused",
	CodeProtocol:     "protocol violation",
	CodeShuttingDown: "agent is shutting down",
	CodeCannotResume: "session cannot be resumed",
	CodeMoved:        "device is plugged into another node",
	CodeRemoved:      "node was removed from the cluster",
	CodeWithdrawn:    "device is not published any more",
}

// Error returns what the code means.
func (c Code) Error() string {
	if text, ok := codeTexts[c]; ok {
		return text
	}
	return fmt.Sprintf("closed with code %d", uint64(c))
}

// CloseError is the end of a session as one side declared it. It unwraps to
// its Code.
type CloseError struct {
	Code Code
	// Text adds what a person wants to know, for example who holds the
	// device; at most 256 bytes, may be empty.
	Text string
	// Remote is true when the other side raised it. It is not on the wire.
	Remote bool
}

// Error names the side that closed and why.
func (e *CloseError) Error() string {
	side := "this side"
	if e.Remote {
		side = "the other side"
	}
	if e.Text == "" {
		return fmt.Sprintf("session closed by %s: %v", side, e.Code)
	}
	return fmt.Sprintf("session closed by %s: %v: %s", side, e.Code, e.Text)
}

// Unwrap returns the Code.
func (e *CloseError) Unwrap() error { return e.Code }
