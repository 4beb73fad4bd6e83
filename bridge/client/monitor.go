package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/serialspan/serialspan/bridge/capture"
)

// Monitor reads along at a device. Next is for one goroutine; Close may be
// called by any.
type Monitor struct {
	raw  *rawConn
	buf  []byte // read, not decoded yet
	done int    // of buf, decoded
}

// OpenMonitor opens a device to read along, whoever uses it, which takes the
// right to read; ctx governs the opening only. The caller closes it.
func (c *Client) OpenMonitor(ctx context.Context, device string) (*Monitor, error) {
	raw, err := c.open(ctx, "/v1/monitor", url.Values{"device": {device}}, UpgradeMonitor)
	if err != nil {
		return nil, err
	}
	return &Monitor{raw: raw, buf: make([]byte, 0, 4<<10)}, nil
}

// Next returns the next event; its Data is valid until the next call. It blocks
// until there is one, the device is lost for good (an *Error says why, io.EOF is
// a plain end) or Close.
func (m *Monitor) Next() (capture.Event, error) {
	for {
		event, size, err := capture.Decode(m.buf[m.done:])
		if err != nil {
			return capture.Event{}, fmt.Errorf("read monitor: %w; is the agent of the same version as this program?", err)
		}
		if size > 0 {
			m.done += size
			return event, nil
		}
		m.buf = m.buf[:copy(m.buf, m.buf[m.done:])]
		m.done = 0
		if len(m.buf) == cap(m.buf) {
			m.buf = append(m.buf, 0)[:len(m.buf)]
		}
		n, err := m.raw.Read(m.buf[len(m.buf):cap(m.buf)])
		m.buf = m.buf[:len(m.buf)+n]
		if err != nil {
			if errors.Is(err, io.EOF) && len(m.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return capture.Event{}, err
		}
	}
}

// Close ends the reading along and unblocks Next.
func (m *Monitor) Close() error { return m.raw.Close() }
