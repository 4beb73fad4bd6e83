package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpTime bounds one command to QEMU.
const qmpTime = 20 * time.Second

// qmp talks to QEMU's monitor. One mutex is above the connection: commands run
// one after the other, and events are read while one waits for its answer.
type qmp struct {
	mu     sync.Mutex
	conn   net.Conn
	out    *json.Encoder
	in     *json.Decoder
	events []qmpEvent // seen and not asked for
}

type qmpEvent struct {
	name   string
	device string
}

// qmpMessage is any message of QEMU.
type qmpMessage struct {
	Event string
	Data  struct{ Device string }
	Error *struct{ Class, Desc string }
}

// newQMP takes over the connection and leaves the greeting behind.
func newQMP(conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, out: json.NewEncoder(conn), in: json.NewDecoder(conn)}
	_ = conn.SetDeadline(time.Now().Add(qmpTime))
	var greeting json.RawMessage
	if err := q.in.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("QMP greeting: %w", err)
	}
	return q, q.do("qmp_capabilities", nil)
}

// do runs a command and returns when QEMU has answered.
func (q *qmp) do(command string, arguments map[string]any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	_ = q.conn.SetDeadline(time.Now().Add(qmpTime))
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	if err := q.out.Encode(message); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		m, err := q.next()
		switch {
		case err != nil:
			return fmt.Errorf("QMP %s: %w", command, err)
		case m.Event != "":
		case m.Error != nil:
			return fmt.Errorf("QMP %s: %s", command, m.Error.Desc)
		default:
			return nil
		}
	}
}

// next reads a message and keeps it if it is an event.
func (q *qmp) next() (qmpMessage, error) {
	var m qmpMessage
	err := q.in.Decode(&m)
	if err == nil && m.Event != "" {
		q.events = append(q.events, qmpEvent{m.Event, m.Data.Device})
	}
	return m, err
}

// await waits for an event of the device that nobody has waited for yet.
func (q *qmp) await(event, device string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	_ = q.conn.SetDeadline(time.Now().Add(qmpTime))
	for {
		for i, e := range q.events {
			if e == (qmpEvent{event, device}) {
				q.events = append(q.events[:i], q.events[i+1:]...)
				return nil
			}
		}
		m, err := q.next()
		if err == nil && m.Event == "" {
			err = errors.New("an answer that nobody asked for")
		}
		if err != nil {
			return fmt.Errorf("wait for QMP %s of %s: %w", event, device, err)
		}
	}
}
