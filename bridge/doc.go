// Package bridge joins serial devices to those who use them. It is empty: its
// parts are the packages below it, and its tests are those of both sides at once.
//
//	        owner                                              consumer
//	rule        which ttys are published, and how      attach   applications: PTY, TCP, RFC 2217
//	publish     the devices of this node               remote   programs of this node: ports, monitors
//	                                                   use      one application's use of a device
//	internal/inventory  which hardware is there        internal/pty       terminals
//	internal/device     a device and its sessions      internal/handover  what a restart leaves
//	internal/slot       its port, and who writes
//	internal/port       ttys;  internal/uevent, pathwatch  hot-plug
//
//	        both
//	session        what is said on a stream: offsets, windows, liveness
//	internal/link  one side of a session, with its stream and its local side
//	line, profile, capture, portwire, rfc2217          values and codecs
//	client                                             programs elsewhere, by the agent's socket
//
// In between runs package session on streams that somebody else dials and accepts:
// nothing here knows of the mesh, and of the registry only its Device.
//
//	tty ── Port ── Device ── lease ── Link ══ stream ══ Link ── Use ── attachment ── PTY, TCP client
//	       └────────── Publisher ───────┘             └────────── Attacher ─────┘    remote.Port
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
//	consumer         with attach.Config.Files a PTY and its session go on in the next process;
//	restarted        if it was killed, the PTY does, and what was on its way is a gap
//	kicked           the consumer waits politely for hold, then hangs up; it stays polite
//	                 until it is let in
//
// Who of several consumers has a device, package internal/device says; what becomes
// of one application's use, package use.
package bridge
