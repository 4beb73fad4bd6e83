// Package link is one side of one session between a device and who uses it, the
// owner's or the consumer's alike: a session.End that is tied to its present
// stream and to its local side, a Sink. What a session is for, who dials its
// streams and how long it is kept without one, package link does not know.
//
//	local side                Link                         stream
//	Read  ──▶ Send, Offer ──▶ End.Write ─▶ End.Output ──▶ Write
//	Sink  ◀── outlet      ◀── End.Input ◀─ FrameReader ◀── Read
//
// A Link lives across streams: Connect gives it one after OPEN and ACCEPT, Serve
// reads it until it breaks, and the next Connect replays what the peer lacks.
// Close ends the session and tells the peer; Park lays it to rest for another
// process, whose Restore goes on with it.
//
// # Goroutines
//
// Serve runs on its caller's. A Link starts short ones: to write what a reader
// must not (a reader that writes could wait for another reader that writes), and
// the outlet's drainer, while the local side does not keep up. Close and Park end
// them, Wait joins them. All methods are safe for concurrent use.
package link
