// Package attach is the consumer's side of the bridge: an Attacher gives
// applications of this machine devices of any node as what they know already: a
// PTY behind a link, a TCP port, or one that speaks RFC 2217. Programs of this node
// itself open them by package remote. How a session is made and kept, package use
// knows.
//
//	application ── PTY, TCP client ── attachment ── use.Use ── link.Link ══ stream ══ owner
//
// With Config.Files the terminals of PTY attachments, and what is on its way
// through them, go on in the next process; package internal/handover is what is
// written down for it.
//
// # Goroutines
//
// Attacher.Run has one per attachment (a PTY's reader or a listener), one per TCP
// client, two more per RFC 2217 client, and one per use (the stream's reader). It
// joins them before it returns. Everything ends with its context.
package attach
