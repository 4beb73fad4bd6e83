package agent

import (
	"context"
	"io"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/remote"
)

// Monitor implements control.Agent.
func (a *Agent) Monitor(ctx context.Context, device string) (io.ReadCloser, error) {
	m, err := a.attacher.OpenMonitor(ctx, device)
	if err != nil {
		return nil, controlError(err)
	}
	return &records{monitor: m}, nil
}

// records is a monitor as a stream of its records. Read is for one goroutine.
type records struct {
	monitor *remote.Monitor
	record  []byte // the last one
	rest    []byte // of record, not read yet
}

func (r *records) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		event, err := r.monitor.Next()
		if err != nil {
			if err == io.EOF {
				return 0, err
			}
			return 0, controlError(err)
		}
		r.record = capture.Append(r.record[:0], event)
		r.rest = r.record
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *records) Close() error { return r.monitor.Close() }
