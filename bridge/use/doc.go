// Package use is one application's use of a device, from its open to its close: it
// finds the device, opens a session there, resumes it on new streams, and begins a
// new session where the old is lost. Applications, and what they have open, are
// packages attach and remote; the device is anywhere, this node included.
//
// # States
//
//	            Resolve, Dial, OPEN ⇄ ACCEPT           stream broken
//	Waiting ────────────────────────────▶ Connected ───────────────▶ Holding
//	   │  ▲                                 │   ▲                      │   │
//	   │  └── session lost: a counted gap ──┤   └── Dial, resume ──────┘   │
//	   │                                    ▼                              │
//	   │                           Kicked: another took it;                │
//	   │                           asks again, politely                    │
//	   └── hold without a stream ──▶ over: the application is hung up ◀────┘
//
// A refusal ends a use at once, and so does the first answer of an eager one.
//
// # Restart
//
// A use with Options.Keeps that ends by ErrEnds is laid to rest and not closed: the
// owner hears nothing and holds the session. AtRest is what the next process makes
// its use of, with Resume and Again.
//
// # Goroutines
//
// Start runs a use on one goroutine, which is also the reader of the stream. A link
// that is closed, and what an application wrote before there was a session, have
// short ones of their own. Wait returns when all have ended.
package use
