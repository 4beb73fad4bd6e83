// Package bridge joins serial devices to those who use them: the Publisher is
// the owner's side, the Attacher the consumer's. In between runs package
// session on streams that somebody else dials and accepts; bridge knows
// nothing of the mesh, and of the registry only its Device.
//
//	device ── Port ── device ── lease ── link ══ stream ══ link ── use ── attachment ── PTY, TCP client
//	          └──────── Publisher ───────────┘             └────────── Attacher ─────┘   raw (console)
//
// # The way of a byte
//
// A direction has two goroutines on its way, one at each end, and no queue
// between them while everybody keeps up:
//
//	reader of the port   Read ─▶ End.Write ─▶ End.Output ─▶ stream.Write
//	reader of the stream stream.Read ─▶ Decode ─▶ End.Input ─▶ TryWrite to the PTY
//
// and the same from the PTY to the port. What the local side does not take at
// once waits in the outlet's queue, which the session's window bounds, for a
// goroutine that lives only as long as the queue is not empty. So a slow
// reader stalls its own session and no other, and never the stream.
// Acknowledgements go along with data; the timer and the stream's reader hand
// theirs to a short-lived goroutine, because a reader that writes could wait
// for another reader that writes.
//
// # Outages
//
//	stream breaks    consumer dials again at once, then after 50 ms .. 2 s or when Watch signals;
//	                 both ends keep what is not acknowledged and resume by offsets
//	hold is over     owner: the device is free; consumer: the application is hung up. It is
//	                 the rule's; the owner tells it with each ACCEPT
//	owner restarted  a new session begins; what was not acknowledged is a counted gap,
//	                 told to the other end by a CONTROL, and never sent again
//	device unplugged the session waits for it for hold, then CLOSE 5. Back, as any tty at
//	                 any port: everything is set again, what had not been written is
//	                 written, what the driver may have kept is a counted gap (KindLoss)
//	device moved     to another owner: the old one delivers what it has, then CLOSE 10
//	consumer         with AttacherConfig.Files a PTY and its session go on in the next process;
//	restarted        if it was killed, the PTY does, and what was on its way is a gap
//	kicked           the consumer waits politely for hold, then hangs up; it stays polite
//	                 until it is let in
//
// # Several consumers
//
// A device has one writer, or several if it is shared, and any number that read
// along. The only writer of a device that is not shared makes the device wait
// when it does not read. All others miss what does not fit into their windows,
// as a counted gap, and make nobody wait. Several writers take turns, in the order
// of coming, from write to write; each waits by the window of its own session.
//
// A session begins as an open of the device's own tty would: what the device sent
// before is not for it, nor what another did to line settings, DTR and RTS.
//
// # Goroutines
//
// Publisher.Run has one per device that opens its port, one that reads it, one
// that watches its modem lines while somebody uses it, and one that hears the
// kernel's events; Publisher.Serve runs on its caller's. Attacher.Run has one per attachment (a PTY's reader or a
// listener), one per TCP client, and one per use (the stream's reader). A link
// starts short ones to write and to drain; link.close and link.wait join
// them. Everything ends with the context of Run, or of Serve.
package bridge
