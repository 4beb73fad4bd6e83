package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/line"
)

// memPins are what of a port is no data. The zero value has no modem lines.
type memPins struct {
	there   bool
	on      line.ModemLines
	history []string // "0s dtr+rts", "250ms break on", ...
	began   time.Time
	edges   chan struct{}
	spec    bridge.PortSpec
}

var errNoPins = errors.New("no modem lines")

// opened is what the port's driver does at open.
func (p *memPort) opened(spec bridge.PortSpec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins.spec, p.pins.edges = spec, make(chan struct{}, 1)
	if !spec.Line.IsZero() {
		p.line = spec.Line
	}
	if spec.Path == pinned.Path {
		p.pins.there, p.pins.began = true, time.Now()
		p.pins.on = line.CTS
	}
}

func (p *memPort) note(format string, args ...any) {
	p.pins.history = append(p.pins.history, fmt.Sprintf("%v ", time.Since(p.pins.began))+fmt.Sprintf(format, args...))
}

func (p *memPort) SetModem(mask, on line.ModemLines) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return errNoPins
	}
	p.pins.on = p.pins.on&^mask | on&mask
	p.note("%v", p.pins.on&line.ModemOutputs)
	return nil
}

func (p *memPort) SetBreak(to line.Drive) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return errNoPins
	}
	p.note("break %v", to)
	return nil
}

func (p *memPort) Modem() (line.ModemLines, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return 0, errNoPins
	}
	return p.pins.on, nil
}

// drive changes an input as the device does.
func (p *memPort) drive(input line.ModemLines, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins.on &^= input
	if on {
		p.pins.on |= input
	}
	select {
	case p.pins.edges <- struct{}{}:
	default:
	}
}

func (p *memPort) WatchModem(ctx context.Context, changed func(line.ModemLines)) error {
	for {
		on, err := p.Modem()
		if err != nil {
			return err
		}
		changed(on)
		select {
		case <-p.pins.edges:
		case <-ctx.Done():
			return nil
		}
	}
}

// Queued is what the device has not taken.
func (p *memPort) Queued() (int, error) {
	p.toDevice.mu.Lock()
	defer p.toDevice.mu.Unlock()
	return len(p.toDevice.buf), p.toDevice.err
}

func (p *memPort) happened() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.pins.history...)
}

// pinned is a device whose port has modem lines.
var pinned = usb("/dev/ttyUSB9", "303a", "1001", "S9", "2-1")
