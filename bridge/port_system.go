package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/internal/uevent"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/registry"
)

// discoverPorts lists this machine's ttys as sysfs shows them.
func discoverPorts() ([]Candidate, error) {
	found, err := port.Discover("/sys")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no sysfs, as in a bare chroot: rules by path still work
	}
	if err != nil {
		return nil, err
	}
	candidates := make([]Candidate, 0, len(found))
	for _, f := range found {
		c := Candidate{Path: f.Path, Product: f.Product, Manufacturer: f.Manufacturer, Driver: f.Driver, Skip: string(f.Skip)}
		if f.VID != "" {
			c.Hardware = registry.Hardware{
				VID: f.VID, PID: f.PID, Serial: f.Serial, Interface: f.Interface, Port: f.PortPath,
			}
		}
		candidates = append(candidates, c)
	}
	return candidates, nil
}

// watchPorts tells of the kernel's events until ctx is done.
func watchPorts(ctx context.Context, log *slog.Logger, changed func()) error {
	watcher := uevent.New(uevent.Config{Logger: log})
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx) }()
	for {
		select {
		case <-watcher.Changes():
			changed()
		case err := <-ended:
			return err
		}
	}
}

// openPort opens a tty of this machine.
func openPort(spec PortSpec, log *slog.Logger) (Port, error) {
	p, err := port.Open(port.Config{Path: spec.Path, Line: spec.Line, DTR: spec.DTR, RTS: spec.RTS, RS485: port.RS485(spec.RS485), Logger: log})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// sealed puts the errors of ports into the words of this package.
func sealed(err error) error {
	switch {
	case errors.Is(err, port.ErrNoModemLines):
		return fmt.Errorf("%w: %w", line.ErrNoSignals, err)
	case errors.Is(err, port.ErrGone), errors.Is(err, port.ErrClosed):
		return fmt.Errorf("%w: %w", session.CodeGone, err)
	}
	return err
}
