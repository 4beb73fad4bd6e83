package remote

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// Monitor reads along at a device, whoever uses it. What it does not read in
// time is a counted gap and delays nobody. Next is for one goroutine; the other
// methods are safe for concurrent use.
type Monitor struct {
	device string
	raw    *raw
	buf    []byte // read, not decoded yet
	done   int    // of buf, decoded
	last   time.Duration
}

// Next returns the next event; Data is valid until the next call. It blocks
// until there is one, the device is lost for good (the error says why), or
// Close. After an outage that could not be bridged comes a Gap, and the times
// begin anew.
func (m *Monitor) Next() (capture.Event, error) {
	for {
		e, size, err := capture.Decode(m.buf[m.done:])
		if err != nil {
			return capture.Event{}, fmt.Errorf("monitor %q: %w", m.device, err)
		}
		if size > 0 {
			m.done += size
			if e.Kind != capture.FromDevice && e.Kind != capture.ToDevice && e.At == 0 {
				e.At = m.last // of a control, which has no time
			}
			m.last = e.At
			return e, nil
		}
		m.buf = m.buf[:copy(m.buf, m.buf[m.done:])]
		m.done = 0
		if len(m.buf) == cap(m.buf) {
			m.buf = append(m.buf, 0)[:len(m.buf)]
		}
		n, err := m.raw.Read(m.buf[len(m.buf):cap(m.buf)])
		if m.buf = m.buf[:len(m.buf)+n]; err != nil {
			return capture.Event{}, err
		}
	}
}

// Status tells how the session is.
func (m *Monitor) Status() use.Status { return m.raw.Status() }

// Close ends the session and unblocks Next. It is safe to call twice.
func (m *Monitor) Close() error { return m.raw.Close() }

// monitorSink is a raw stream that takes whole records, and turns controls into
// records. Controls come between whole records, since the owner sends nothing
// else.
type monitorSink struct {
	*raw
	part []byte // of a record; guarded by raw.mu
}

// Begins is told of a new session: its records begin anew.
func (s *monitorSink) Begins(between bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part = s.part[:0]; between {
		s.put(capture.Append(nil, capture.Event{Kind: capture.Gap, Of: capture.FromDevice, Unknown: true}))
	}
}

// put takes all of p. mu is held.
func (s *monitorSink) put(p []byte) {
	s.part = append(s.part, p...)
	whole := 0
	for {
		_, size, err := capture.Decode(s.part[whole:])
		if size == 0 && err == nil {
			break
		}
		if err != nil { // the reader finds it and says so
			whole = len(s.part)
			break
		}
		whole += size
	}
	s.buf = append(s.buf, s.part[:whole]...)
	s.part = s.part[:copy(s.part, s.part[whole:])]
	s.changed.Broadcast()
}

func (s *monitorSink) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) >= rawBuffer {
		return 0, nil
	}
	s.put(p)
	return len(p), nil
}

func (s *monitorSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) >= rawBuffer {
		if s.pressed {
			return 0, os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
	s.put(p)
	return len(p), nil
}

func (s *monitorSink) SetWriteDeadline(t time.Time) error { return rawSink{s.raw}.SetWriteDeadline(t) }

func (s *monitorSink) Purge(uint64) {}

func (s *monitorSink) Apply(_ context.Context, c session.Control) {
	var e capture.Event
	switch c.Kind {
	case session.KindGap:
		e = capture.Event{Kind: capture.Gap, Of: capture.FromDevice, Lost: c.Lost, Unknown: c.Unknown}
	case session.KindModem:
		e = capture.Event{Kind: capture.Modem, Mask: line.ModemLines(c.Mask), On: line.ModemLines(c.Bits)}
	case session.KindPort:
		e = capture.Event{Kind: capture.Port, Open: c.Bits == session.PortOpen, Text: c.Text}
	case session.KindUsers:
		e = capture.Event{Kind: capture.Note, Text: "in use by: " + c.Text}
	case session.KindFailed:
		e = capture.Event{Kind: capture.Line, Text: c.Line}
	}
	if e.Kind == 0 || e.Kind == capture.Line && e.Text == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(capture.Append(nil, e))
}

// Monitor opens a device to read along; see Raw for how long that
// takes, what ends it and its errors. It needs the right to read.
func (o *Opener) Monitor(ctx context.Context, device string) (*Monitor, error) {
	r, err := o.open(ctx, stream{device: device, kind: capture.SessionKind, take: use.TakePolite, readOnly: true}, func(r *raw) link.Sink { return &monitorSink{raw: r} })
	if err != nil {
		return nil, fmt.Errorf("monitor %q: %w", device, err)
	}
	m := &Monitor{device: device, raw: r, buf: make([]byte, 0, rawBuffer)}
	if inForce, _ := r.use.Port(); !inForce.IsZero() {
		m.buf = capture.Append(m.buf, capture.Event{Kind: capture.Line, Text: inForce.String()})
	}
	return m, nil
}
