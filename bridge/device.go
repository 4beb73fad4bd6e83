package bridge

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/registry"
)

// readBuffer is how much one Read of a local side takes at most: what one
// DATA frame carries.
const readBuffer = session.MaxData

// Pauses before a port is opened again.
const (
	reopenFirst = 100 * time.Millisecond // udev may still be setting modes
	reopenMost  = 5 * time.Second
)

// device is a published device: its port, opened again and again, and the
// lease of whoever uses it. Its goroutine (run) belongs to Publisher.Run.
type device struct {
	publisher *Publisher
	log       *slog.Logger
	name      string
	cancel    context.CancelFunc
	poke      chan struct{} // want changed

	// gate is held while a lease is given or taken away, which may have to
	// wait for the port.
	gate chan struct{}

	mu      sync.Mutex
	want    want
	port    Port               // nil: not open
	release context.CancelFunc // makes run give the port back, while it is open
	fault   string
	lease   *lease
	closed  bool // run is over
}

func newDevice(p *Publisher, w want, cancel context.CancelFunc) *device {
	return &device{
		publisher: p, log: p.log.With("device", w.name), name: w.name, cancel: cancel,
		poke: make(chan struct{}, 1), gate: make(chan struct{}, 1), want: w,
	}
}

// update takes over a changed rule or place of the hardware. A port that is
// open stays open unless it has to be another.
func (d *device) update(w want) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.want
	d.want = w
	if old.present == w.present && old.spec() == w.spec() {
		return
	}
	if d.port != nil {
		d.release()
	}
	signal(d.poke)
	signal(d.publisher.dirty)
}

func (w want) spec() PortSpec {
	return PortSpec{Path: w.candidate.Path, Line: w.rule.Line, DTR: w.rule.DTR, RTS: w.rule.RTS}
}

// run keeps the port open and reads it until ctx is done.
func (d *device) run(ctx context.Context) {
	pause := backoff{first: reopenFirst, most: reopenMost}
	for ctx.Err() == nil {
		d.mu.Lock()
		spec, present := d.want.spec(), d.want.present
		d.mu.Unlock()
		if !present {
			select {
			case <-d.poke:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		port, err := d.publisher.config.Open(spec)
		if err == nil {
			err = d.use(ctx, spec, port)
		}
		if time.Since(began) > reopenMost {
			pause.reset()
		}
		if ctx.Err() == nil {
			d.lost(err)
			pause.wait(ctx, d.poke, nil)
		}
	}
	d.mu.Lock()
	d.closed, d.port = true, nil
	d.mu.Unlock()
	d.end(nil, session.CloseError{Code: session.CodeShuttingDown})
}

// use lends the port out until it fails, ctx is done, or update wants another.
// It closes the port.
func (d *device) use(ctx context.Context, spec PortSpec, port Port) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(inner, func() {
		defer close(closed)
		code := session.CodeGone
		if ctx.Err() != nil {
			code = session.CodeShuttingDown
		}
		d.end(nil, session.CloseError{Code: code}) // pump may wait for the consumer
		_ = port.Close()
	})
	err := errors.New("it is not wanted any more")
	if d.opened(ctx, spec, port, cancel) {
		err = d.pump(port)
	}
	if !stop() {
		<-closed
	}
	_ = port.Close()
	return err
}

// opened makes port the device's, unless that came to an end or changed
// meanwhile.
func (d *device) opened(ctx context.Context, spec PortSpec, port Port, release context.CancelFunc) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil || d.want.spec() != spec || !d.want.present {
		return false
	}
	d.port, d.fault, d.release = port, "", release
	d.log.Info("port opened", "path", spec.Path)
	signal(d.publisher.dirty)
	return true
}

// pump reads the port until it fails. What arrives while nobody uses the
// device is dropped.
func (d *device) pump(port Port) error {
	buf := make([]byte, readBuffer)
	for {
		n, err := port.Read(buf)
		if n > 0 {
			d.mu.Lock()
			holder := d.lease
			d.mu.Unlock()
			if holder != nil {
				_, _ = holder.link.send(buf[:n]) // a session that just ended takes less
			}
		}
		if err != nil {
			return err
		}
	}
}

// lost notes that the port is not open and ends the session on it.
func (d *device) lost(err error) {
	d.mu.Lock()
	was := d.port != nil
	d.port = nil
	text := "cannot be opened"
	if err != nil {
		text = err.Error()
	}
	said := d.fault == text
	d.fault = text
	present := d.want.present
	d.mu.Unlock()
	if was || present && !said {
		d.log.Warn("port is not open, retrying", "err", text)
	}
	d.end(nil, session.CloseError{Code: session.CodeGone, Text: text})
	signal(d.publisher.dirty)
}

// view is what the registry shall show.
func (d *device) view() registry.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := registry.Device{
		Name: d.name, Kind: d.want.kind, Hardware: hardwareOf(d.want.candidate),
		Labels: maps.Clone(d.want.rule.Labels), Line: d.want.rule.Line.String(),
	}
	switch {
	case !d.want.present:
		v.State, v.Detail = registry.StateAway, "unplugged"
	case d.port == nil && d.fault == "":
		v.State, v.Detail = registry.StateAway, "being opened"
	case d.port == nil:
		v.State, v.Detail = registry.StateFault, d.fault
	case d.lease != nil:
		v.State, v.User, v.Line = registry.StateInUse, d.lease.peer, d.port.Line().String()
	default:
		v.Line = d.port.Line().String()
	}
	return v
}
