package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// DefaultHold is how long both ends keep a session without a stream: longer
// than a switch of paths or a restarting router, shorter than a person waits.
const DefaultHold = 15 * time.Second

// When a stream is given up. A serial session may be silent for hours; a
// broken path must not look like one.
const (
	// PingAfter is how long nothing is heard before a PING asks. Both ends
	// do so; an answered PING quiets both.
	PingAfter = 2 * time.Second
	// DeadAfter is three of them: one loss of a PING or PONG is forgiven by
	// QUIC below and by the next PING here.
	DeadAfter = 3 * PingAfter

	// BusyPingAfter and BusyDeadAfter take their places while the peer has
	// not confirmed all that was sent: whoever waits for an answer of the
	// device shall not wait for us. A device that takes nothing does not
	// make its owner silent.
	BusyPingAfter = 500 * time.Millisecond
	BusyDeadAfter = 4 * BusyPingAfter
)

// ErrSilent is returned by Check when nothing was heard for DeadAfter, or
// BusyDeadAfter.
var ErrSilent = errors.New("nothing heard from the peer")

// End is one side of a session: the bytes that it sent and that are not yet
// acknowledged, the offsets of what it received, and the liveness of the
// present stream. It outlives streams. It is not safe for concurrent use.
//
// Every method takes the monotonic time since any fixed start. No method
// keeps a slice that it was given, and none allocates in the steady state.
type End struct {
	out       sender
	in        receiver
	connected bool

	dropped       uint64
	heard, pinged time.Duration
	token         uint64 // of the last PING sent
	trip          time.Duration
	busy          bool // there is something unacknowledged, since busySince
	busySince     time.Duration
	pong          uint64 // token to answer, if pongDue
	pongDue       bool
	asked         bool // for a PING
}

// NewEnd begins a session whose side keeps and accepts up to window bytes; 0
// stands for DefaultWindow. It sends nothing until Connect.
func NewEnd(window int) *End {
	if window <= 0 {
		window = DefaultWindow
	}
	return &End{out: sender{limit: window}, in: receiver{window: window}}
}

// Expect keeps what is written before the first Connect within the peer's window
// too; what passes that would be a violation of the protocol.
func (e *End) Expect(window uint64) { e.out.limit = int(min(uint64(e.in.window), window)) }

// Connect starts the use of a new stream after OPEN and ACCEPT: next is the
// offset the peer expects, window what it takes past its last ACK. It rewinds
// to next. CodeCannotResume: the bytes from there on are no longer, or not
// yet, here; the End is unchanged.
func (e *End) Connect(now time.Duration, next, window uint64) error {
	if err := e.out.rewind(next); err != nil {
		return err
	}
	e.Expect(window)
	// A peer keeps as much unacknowledged as both windows allow: it must not
	// have to wait for an ACK that waits for more.
	e.in.ackAfter = uint64(min(ackBytes, max(e.out.limit/4, 1)))
	if e.out.stale > 0 {
		e.dropped += uint64(e.out.expire(now, next))
	}
	e.connected = true
	e.heard, e.pinged = now, now
	e.busy = false
	e.pongDue = false
	// The last ACK may have been lost with the stream before.
	if e.in.delivered > 0 {
		e.in.waiting, e.in.since = true, now-ackDelay
	}
	return nil
}

// Disconnect ends the use of the present stream, which broke. Until the next
// Connect the End takes bytes and sends none.
func (e *End) Disconnect() { e.connected = false }

// Next is the offset of the byte that this side expects: key 5 of OPEN, key 4
// of ACCEPT.
func (e *End) Next() uint64 { return e.in.next }

// Window is what this side accepts past its last ACK, in bytes.
func (e *End) Window() uint64 { return uint64(e.in.window) }

// Room is how many bytes Write takes now.
func (e *End) Room() int { return e.out.room() }

// Unacknowledged is how many bytes and controls the peer has not confirmed as
// delivered: up to that many are lost if the session ends now.
func (e *End) Unacknowledged() int { return e.out.kept() }

// Sent is the offset after the last byte or control that was taken to be sent,
// Acknowledged the one before which the peer has confirmed all.
func (e *End) Sent() uint64 { return e.out.end }

// Acknowledged: see Sent.
func (e *End) Acknowledged() uint64 { return e.out.base }

// Undelivered is how many received bytes and controls this side has not yet
// delivered.
func (e *End) Undelivered() int { return int(e.in.next - e.in.delivered) }

// SetMaxStale sets the age at which bytes are given up at a later Connect; see
// the package comment. 0: never. What was written before it was first set has
// no age.
func (e *End) SetMaxStale(age time.Duration) { e.out.stale = age }

// Dropped is how many bytes were given up as stale since the session began.
func (e *End) Dropped() uint64 { return e.dropped }

// RoundTrip is the time between the last answered PING and its answer; 0: none
// yet. While bytes flow there are no PINGs; Ping asks for one.
func (e *End) RoundTrip() time.Duration { return e.trip }

// Ping asks for a PING, for RoundTrip.
func (e *End) Ping() { e.asked = true }

// Fits reports whether there is room for a write of n bytes as a whole: then it
// goes as one frame, if n is at most MaxData. Half of the window is always enough.
func (e *End) Fits(n int) bool { return e.out.room() >= min(n, max(e.out.limit/2, 1)) }

// Write takes bytes to be sent that were read now, up to Room, and returns how
// many. What one call takes goes as one DATA frame, as far as it is not more than
// MaxData: to the receiver, the end of a frame is the end of a write.
func (e *End) Write(now time.Duration, p []byte) int { return e.out.append(now, p) }

// Control takes c to be sent after all bytes written before it. It reports
// false when there is no room; an ACK makes some.
func (e *End) Control(c Control) (bool, error) {
	if c.Kind == 0 || len(c.Line) > MaxText || !validText(c.Line) || len(c.Text) > MaxText || !validText(c.Text) {
		return false, fmt.Errorf("send control: kind %d with line settings of %d bytes and a text of %d", c.Kind, len(c.Line), len(c.Text))
	}
	body, err := encoding.Marshal(c)
	if err != nil {
		return false, fmt.Errorf("send control: %w", err)
	}
	return e.out.appendControl(body), nil
}

// Event is what a frame brought. At most one of its fields is set.
type Event struct {
	// Data are new bytes in order, to be delivered and then counted by
	// Delivered. They alias the frame.
	Data []byte
	// Control is new and stands after all data before it; it counts as one
	// byte in Delivered. Its Kind is 0 if there is none.
	Control Control
	// Skipped is how many bytes the peer has given up here as stale: a gap.
	// They count in Delivered, once what came before them was.
	Skipped int
	// Acked: the peer confirmed delivery, Room and Unacknowledged changed.
	Acked bool
	// Close: the peer ended the session; nothing follows.
	Close *CloseError
}

// Input takes a frame of the present stream. An error wraps ErrProtocol or
// says what else makes the stream useless; the session may be resumed on
// another unless it is ErrProtocol.
func (e *End) Input(now time.Duration, f Frame) (Event, error) {
	e.heard = now
	switch f.Type {
	case TypeData:
		offset, data := split(f.Payload)
		known, err := e.in.take(offset, len(data))
		if err != nil {
			return Event{}, err
		}
		return Event{Data: data[known:]}, nil
	case TypeAck:
		offset, _ := split(f.Payload)
		if err := e.out.ack(offset); err != nil {
			return Event{}, err
		}
		e.busy = e.busy && e.out.kept() > 0
		return Event{Acked: true}, nil
	case TypeControl:
		offset, c, err := ParseControl(f.Payload)
		if err != nil {
			return Event{}, err
		}
		known, err := e.in.take(offset, 1)
		if err != nil || known == 1 {
			return Event{}, err
		}
		return Event{Control: c}, nil
	case TypeClose:
		closed, err := ParseClose(f.Payload)
		return Event{Close: closed}, err
	case TypePing:
		e.pong, _ = split(f.Payload)
		e.pongDue = true
		return Event{}, nil
	case TypePong:
		if token, _ := split(f.Payload); token == e.token {
			e.trip = now - e.pinged
		}
		return Event{}, nil
	case TypeSkip:
		offset, count := split(f.Payload)
		n := binary.BigEndian.Uint32(count)
		if n == 0 || n > math.MaxInt32 {
			return Event{}, fmt.Errorf("receive SKIP: %w: of %d bytes", ErrProtocol, n)
		}
		known, err := e.in.take(offset, int(n))
		if err != nil {
			return Event{}, err
		}
		return Event{Skipped: int(n) - known}, nil
	}
	if f.Type >= typeIgnorable {
		return Event{}, nil
	}
	return Event{}, fmt.Errorf("receive frame: %w: %v in an open session", ErrProtocol, f.Type)
}

// Delivered counts n received bytes (a control is one) as handed over to the
// device, PTY or socket, or as purged.
func (e *End) Delivered(now time.Duration, n int) { e.in.deliver(now, n) }

// Urge makes an ACK that waits due at once: of a control, for whose effect its
// sender may wait.
func (e *End) Urge(now time.Duration) { e.in.since = min(e.in.since, now-ackDelay) }

// Output appends to dst what has to be sent now, less than two MaxFrame, and
// returns the longer slice; nothing is appended when all is sent. Call it until
// then: after Write, Control, Connect, when Due says so.
// A waiting ACK goes along with data.
func (e *End) Output(now time.Duration, dst []byte) []byte {
	if !e.connected {
		return dst
	}
	if e.pongDue {
		e.pongDue = false
		dst = appendNumber(dst, TypePong, e.pong)
	}
	if !e.busy && e.out.kept() > 0 {
		e.busy, e.busySince = true, now
	}
	if now >= e.pingAt() {
		e.pinged, e.asked = now, false
		e.token++
		dst = appendNumber(dst, TypePing, e.token)
	}
	if e.in.due(now) || e.in.waiting && e.out.next < e.out.end {
		dst = e.in.frame(dst)
	}
	for start := len(dst); e.out.next < e.out.end && len(dst)-start < MaxFrame/2; {
		dst = e.out.frame(dst)
	}
	return dst
}

// Due reports whether Output has something to append now.
func (e *End) Due(now time.Duration) bool {
	return e.connected && (e.pongDue || e.out.next < e.out.end || e.in.due(now) ||
		now >= e.pingAt())
}

// pingAt is when a PING is due.
func (e *End) pingAt() time.Duration {
	if e.asked {
		return 0
	}
	quiet := max(e.heard, e.pinged)
	if e.busy {
		return min(quiet+PingAfter, max(quiet, e.busySince)+BusyPingAfter)
	}
	return quiet + PingAfter
}

// deadAt is when the stream is to be given up.
func (e *End) deadAt() time.Duration {
	if e.busy {
		return min(e.heard+DeadAfter, max(e.heard, e.busySince)+BusyDeadAfter)
	}
	return e.heard + DeadAfter
}

// Wake is the time at which Due or Check has to be asked again if nothing
// else happens before.
func (e *End) Wake() time.Duration {
	at := min(e.pingAt(), e.deadAt())
	if e.in.waiting {
		at = min(at, e.in.since+ackDelay)
	}
	return at
}

// Check returns ErrSilent if the present stream is to be given up.
func (e *End) Check(now time.Duration) error {
	if e.connected && now >= e.deadAt() {
		return ErrSilent
	}
	return nil
}

func appendOffset(dst []byte, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, offset)
}
