package pty

import "github.com/serialspan/serialspan/bridge/line"

// What says what an Event is about. It is a set: one flush may purge both ways.
type What uint8

// The kinds of events.
const (
	Opened      What = 1 << iota // the first app opened it
	Closed                       // the last app closed it; all it wrote was read before
	LineChanged                  // an app changed the settings; bytes read before go out at the old ones
	PurgeInput                   // an app dropped what it had not read yet (tcflush TCIFLUSH)
	PurgeOutput                  // an app dropped what it had written (tcflush TCOFLUSH); bytes read after this stay
)

// Has tells whether all the given kinds are in the set.
func (w What) Has(kinds What) bool { return w&kinds == kinds }

// Event is something an app did other than writing. The settings are those in
// force with the event, whatever its kind.
type Event struct {
	What What
	// Line has the app's baud rate, stop bits and flow control. Data bits and
	// parity are those of Config.Line: the kernel does not let an app change
	// them on a pseudoterminal.
	Line line.Settings
	// HangUpOnClose is HUPCL: the app wants DTR and RTS off after its close.
	HangUpOnClose bool
	// LinesOff is a baud rate of 0: the app wants DTR and RTS off now. Line
	// keeps the rate from before.
	LinesOff bool
}

// due is a change of settings, to be told after so many bytes of those held
// (beyond those of the dues before it).
type due struct {
	bytes int
	event Event
}
