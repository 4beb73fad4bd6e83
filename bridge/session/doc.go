// Package session is the resumable stream between the owner of a device and
// one consumer: frames, offsets, acknowledgements, replay. It is a pure
// machine: bytes in, bytes out, time handed in as the monotonic time since the
// process started. It has no sockets, goroutines or logging; package
// bridge/internal/link drives it over QUIC streams. It knows nothing of who may
// open what: leases and their arbitration are bridge/internal/device's.
//
// # Wire
//
// One stream carries one connection of one session. Numbers are big endian.
//
//	frame    type (1) | length (2) | payload (length)
//
//	OPEN     1   CBOR Open                   consumer, first frame
//	ACCEPT   2   CBOR Accept                 owner, first frame (or CLOSE)
//	DATA     3   offset (8) | 1..16384 bytes
//	ACK      4   offset (8)                  everything before it was delivered
//	CONTROL  5   offset (8) | CBOR Control   in order with the data
//	CLOSE    6   CBOR {1: code, 2: text}     last frame of the session
//	PING     7   token (8)
//	PONG     8   token (8)                   answers the PING of that token
//	SKIP     9   offset (8) | count (4)      that many bytes were given up (max_stale)
//
// An unknown type below 128 is an error, one from 128 on is skipped, so that a
// newer version can add what an older may ignore. Unknown CBOR keys and
// unknown kinds of CONTROL are ignored likewise.
//
// Each direction counts its own offsets from 0 at the start of the session. A
// byte takes one place. A CONTROL takes one place too, as SYN and FIN do in
// TCP (RFC 9293 section 3.4): so it is acknowledged, replayed and kept in
// order by the same numbers, and can be neither lost nor applied twice.
//
// A DATA frame holds whole writes of its sender, or a piece of one longer than
// 16384 bytes. Where a device has several consumers, they take turns at the ends of
// frames, so that a write of one is not cut by another's.
//
// ACK means delivered: handed to the serial driver, to the PTY, to the
// client's socket. A sender keeps what is not acknowledged, never more than
// the receiver's window (key 7 of OPEN, key 5 of ACCEPT), and so the receiver
// can queue whatever arrives without ever stopping to read the stream. That of
// bytes may wait 20 ms for data to go along with; that of a CONTROL does not,
// since its sender may wait for its effect.
//
// # Stale bytes
//
// With max_stale set (key 9 of ACCEPT), a sender gives up bytes at resume that
// the receiver lacks and that are older than this, by the clock of the side
// that read them: whole bursts, so that no frame of the device's protocol is
// cut. A SKIP stands for their places, which keep their offsets; to the
// receiver it is a counted gap. Controls among them are kept.
//
// # Liveness
//
// A side that has heard nothing for a while sends a PING, and gives the stream
// up if nothing comes: after 500 ms and 2 s while bytes of its own are not
// acknowledged, else after 2 s and 6 s.
//
// # States of a session
//
//	        OPEN ⇄ ACCEPT              stream broken
//	(none) ──────────────▶ connected ────────────────▶ held
//	                        │     ▲                     │  │
//	                  CLOSE │     │ OPEN(resume, next)  │  │ hold is over
//	                        │     │ ⇄ ACCEPT(next)      │  │
//	                        ▼     └─────────────────────┘  ▼
//	                     (none)                         (none): what was not
//	                                                    acknowledged is a gap
//
// OPEN and ACCEPT of a resumed session carry the next offset each side
// expects; each sender rewinds to the other's and sends on from there. What
// was sent twice in that way is trimmed by the receiver. An owner that does
// not know the session any more begins a new one (resumed: false, offsets from
// 0) or refuses (CLOSE 9); the consumer then drops what was not acknowledged
// and counts it: nothing is ever sent twice.
package session
