package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/publish"
)

// memPins are what of a port is no data. The zero value has no modem lines.
type memPins struct {
	there   bool
	on      line.ModemLines
	history []string // "0s dtr+rts", "250ms break on", ...
	began   time.Time
	edges   chan struct{}
	spec    publish.PortSpec
}

// ErrNoPins is what a port without modem lines says.
var ErrNoPins = errors.New("no modem lines")

// Opened is what the port's driver does at open.
func (p *Port) Opened(spec publish.PortSpec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins.spec, p.pins.edges = spec, make(chan struct{}, 1)
	if !spec.Line.IsZero() {
		p.line = spec.Line
	}
	if spec.Path == Pinned.Path {
		p.pins.there, p.pins.began = true, time.Now()
		p.pins.on = line.CTS
	}
}

func (p *Port) note(format string, args ...any) {
	p.pins.history = append(p.pins.history, fmt.Sprintf("%v ", time.Since(p.pins.began))+fmt.Sprintf(format, args...))
}

// SetModem sets outputs, as a tty with modem lines does.
func (p *Port) SetModem(mask, on line.ModemLines) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return ErrNoPins
	}
	p.pins.on = p.pins.on&^mask | on&mask
	p.note("%v", p.pins.on&line.ModemOutputs)
	return nil
}

// SetBreak begins or ends a break.
func (p *Port) SetBreak(to line.Drive) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return ErrNoPins
	}
	p.note("break %v", to)
	return nil
}

// Modem returns the modem lines that are on.
func (p *Port) Modem() (line.ModemLines, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pins.there {
		return 0, ErrNoPins
	}
	return p.pins.on, nil
}

// Drive changes an input as the device does.
func (p *Port) Drive(input line.ModemLines, on bool) {
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

// WatchModem tells the modem lines, at once and after each change of an input.
func (p *Port) WatchModem(ctx context.Context, changed func(line.ModemLines)) error {
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
func (p *Port) Queued() (int, error) {
	p.ToDevice.mu.Lock()
	defer p.ToDevice.mu.Unlock()
	return len(p.ToDevice.buf), p.ToDevice.err
}

// Happened returns what happened to the outputs since the open, each with its time:
// "0s dtr+rts", "250ms break on".
func (p *Port) Happened() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.pins.history...)
}

// Pinned is a device whose port has modem lines.
var Pinned = USB("/dev/ttyUSB9", "303a", "1001", "S9", "2-1")

// Boards are profiles as those of configs/profiles.
var Boards = []profile.Profile{
	{
		Name: "esp32", Title: "a board", Kind: "board", Matches: []profile.Match{{VID: "303a", PID: "1001"}},
		Line: line.Settings{Baud: 74880, DataBits: 8}, DTR: line.DriveOff, RTS: line.DriveOff,
		Busy: profile.BusyRefuse, Hold: 7 * time.Second, MaxStale: 1500 * time.Millisecond,
		Recipes: []profile.Recipe{{Name: "bootloader", Steps: []profile.Step{
			{DTR: line.DriveOff, RTS: line.DriveOn, Wait: 100 * time.Millisecond},
			{DTR: line.DriveOn, RTS: line.DriveOff, Wait: 50 * time.Millisecond},
			{DTR: line.DriveOff},
		}}},
		Sources: []string{"test"},
	},
	{Name: "any", Title: "a chip", Kind: profile.KindSerial, Generic: true, Matches: []profile.Match{{VID: "10c4"}},
		Line: line.Settings{Baud: 9600, DataBits: 8}, Sources: []string{"test"}},
}

// Spec returns how the port was opened.
func (p *Port) Spec() publish.PortSpec {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pins.spec
}
