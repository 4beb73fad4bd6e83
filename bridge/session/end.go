package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// When a stream is given up. A serial session may be silent for hours; a
// broken path must not look like one.
const (
	// PingAfter is how long nothing is heard before a PING asks. Both ends
	// do so; an answered PING quiets both.
	PingAfter = 2 * time.Second
	// DeadAfter is three of them: one loss of a PING or PONG is forgiven by
	// QUIC below and by the next PING here.
	DeadAfter = 3 * PingAfter
)

// ErrSilent is returned by Check when nothing was heard for DeadAfter.
var ErrSilent = errors.New("nothing heard from the peer for 6 s")

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

	heard, pinged time.Duration
	token         uint64 // of the last PING sent
	pong          uint64 // token to answer, if pongDue
	pongDue       bool
}

// NewEnd begins a session whose side keeps and accepts up to window bytes; 0
// stands for DefaultWindow. It sends nothing until Connect.
func NewEnd(window int) *End {
	if window <= 0 {
		window = DefaultWindow
	}
	return &End{out: sender{limit: window}, in: receiver{window: window}}
}

// Connect starts the use of a new stream after OPEN and ACCEPT: next is the
// offset the peer expects, window what it takes past its last ACK. It rewinds
// to next. CodeCannotResume: the bytes from there on are no longer, or not
// yet, here; the End is unchanged.
func (e *End) Connect(now time.Duration, next, window uint64) error {
	if err := e.out.rewind(next); err != nil {
		return err
	}
	e.out.limit = int(min(uint64(e.in.window), window))
	// A peer keeps as much unacknowledged as both windows allow: it must not
	// have to wait for an ACK that waits for more.
	e.in.ackAfter = uint64(min(ackBytes, max(e.out.limit/4, 1)))
	e.connected = true
	e.heard, e.pinged = now, now
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

// Undelivered is how many received bytes and controls this side has not yet
// delivered.
func (e *End) Undelivered() int { return int(e.in.next - e.in.delivered) }

// Write takes bytes to be sent, up to Room, and returns how many.
func (e *End) Write(p []byte) int { return e.out.append(p) }

// Control takes c to be sent after all bytes written before it. It reports
// false when there is no room; an ACK makes some.
func (e *End) Control(c Control) (bool, error) {
	if c.Kind == 0 || len(c.Line) > MaxText || !validText(c.Line) {
		return false, fmt.Errorf("send control: kind %d with line settings of %d bytes", c.Kind, len(c.Line))
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
		return Event{}, nil
	}
	if f.Type >= typeIgnorable {
		return Event{}, nil
	}
	return Event{}, fmt.Errorf("receive frame: %w: %v in an open session", ErrProtocol, f.Type)
}

// Delivered counts n received bytes (a control is one) as handed over to the
// device, PTY or socket, or as purged.
func (e *End) Delivered(now time.Duration, n int) { e.in.deliver(now, n) }

// Output appends to dst what has to be sent now, at most MaxFrame and some
// short frames, and returns the longer slice; nothing is appended when all is
// sent. Call it until then: after Write, Control, Connect, when Due says so.
// A waiting ACK goes along with data.
func (e *End) Output(now time.Duration, dst []byte) []byte {
	if !e.connected {
		return dst
	}
	if e.pongDue {
		e.pongDue = false
		dst = appendNumber(dst, TypePong, e.pong)
	}
	if now >= max(e.heard, e.pinged)+PingAfter {
		e.pinged = now
		e.token++
		dst = appendNumber(dst, TypePing, e.token)
	}
	if e.in.due(now) || e.in.waiting && e.out.next < e.out.end {
		dst = e.in.frame(dst)
	}
	return e.out.frame(dst)
}

// Due reports whether Output has something to append now.
func (e *End) Due(now time.Duration) bool {
	return e.connected && (e.pongDue || e.out.next < e.out.end || e.in.due(now) ||
		now >= max(e.heard, e.pinged)+PingAfter)
}

// Wake is the time at which Due or Check has to be asked again if nothing
// else happens before.
func (e *End) Wake() time.Duration {
	at := min(max(e.heard, e.pinged)+PingAfter, e.heard+DeadAfter)
	if e.in.waiting {
		at = min(at, e.in.since+ackDelay)
	}
	return at
}

// Check returns ErrSilent if the present stream is to be given up.
func (e *End) Check(now time.Duration) error {
	if e.connected && now >= e.heard+DeadAfter {
		return ErrSilent
	}
	return nil
}

func appendOffset(dst []byte, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, offset)
}
