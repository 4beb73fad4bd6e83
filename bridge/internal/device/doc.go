// Package device is a published device of this node: its port, opened again and
// again, and the sessions of those who use it, which outlive a port that is lost
// and a stream that breaks for as long as the rule's hold. Which devices there
// are, and under what rule, package inventory says; package publish brings both
// together with the streams that the mesh accepts.
//
//	driver ── slot.Port ── Device ── lease ── link.Link ══ stream ══ consumer
//	                         └────── lease ── link.Link ══ stream ══ who reads along
//
// # Who has the device
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
// Device.Run has one goroutine that opens and closes the port, one that reads it,
// and one that watches its modem lines while somebody uses it; Device.Serve runs
// on its caller's, until the hold of its session is over. Run joins its own before
// it returns; Serve joins its link's.
package device
