// Package peering decides on which path datagrams reach a member: which
// addresses to try, when to probe, when a path is up, in doubt or dead, and
// when to introduce ourselves anew (DESIGN section 6).
//
// It is policy only: a pure machine with the time handed in, as a duration
// since any fixed moment on the monotonic clock, and with effects handed out
// for the caller to carry out in order. It opens nothing and starts nothing.
//
// The life of a path:
//
//	          Want, an authenticated request
//	no path ──────────────────────────────────▶ searching: a round of probes to every
//	   ▲                                        candidate at 0, 0.1, 0.3, 0.7, 1.5 s … 25 s;
//	   │                                        from the third round on also a join handshake,
//	   │                                        for a member that does not know our key
//	   │                                          │ answer
//	   │ three probes unanswered                  ▼
//	in doubt ◀──────────────────────────────────  up
//	   │      quiet, or a request from elsewhere  ▲
//	   └──────────────────────────────────────────┘
//	         answer (from another candidate: the path moves)
//
// Only the answer to a probe of ours makes or moves a path: data from a member
// shows that it reaches us, not that we reach it. Without a path, replies go back
// the way that its probe came for a second (ReplyBy): that answer is under way.
// Quiet means that nothing was received: for 250 ms with a session in use, else
// for 10 s after we sent.
//
// Tie-breaks: the first candidate to answer becomes the path; a path that is
// up and not in doubt is left only for one of a better kind. A route through the
// KubeSpan that both are in is better than a straight one, and that is better
// than one through a relay; better ones are tried from time to time. Of relays,
// those to which the member keeps a path (its doors) are tried before ours; in
// use, the path moves to one that is faster by a quarter. A KubeSpan
// that has died must answer three times in a row, a second apart, before it is
// used again, more often if it dies again soon.
package peering
