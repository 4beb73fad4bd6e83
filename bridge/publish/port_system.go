package publish

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/serialspan/serialspan/bridge/internal/device"
	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/internal/slot"
	"github.com/serialspan/serialspan/bridge/internal/uevent"
	"github.com/serialspan/serialspan/bridge/pathwatch"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/registry"
)

// Port is an opened local serial port, as a Publisher uses it.
type Port = slot.Port

// PortSpec is how a port is to be opened.
type PortSpec = device.PortSpec

// discoverPorts lists this machine's ttys as sysfs shows them.
func discoverPorts() ([]rule.Candidate, error) {
	found, err := port.Discover("/sys")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no sysfs, as in a bare chroot: rules by path still work
	}
	if err != nil {
		return nil, err
	}
	candidates := make([]rule.Candidate, 0, len(found))
	for _, f := range found {
		c := rule.Candidate{Path: f.Path, Product: f.Product, Manufacturer: f.Manufacturer, Driver: f.Driver, Skip: string(f.Skip)}
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

// watchPaths tells of ttys that have no events of their own: PTYs, links.
func watchPaths(ctx context.Context, paths []string, changed func()) error {
	return pathwatch.Watch(ctx, pathwatch.Existence, changed, paths...)
}

// openPort opens a tty of this machine.
func openPort(spec PortSpec, log *slog.Logger) (Port, error) {
	p, err := port.Open(port.Config{Path: spec.Path, Line: spec.Line, DTR: spec.DTR, RTS: spec.RTS, RS485: port.RS485(spec.RS485), Logger: log})
	if err != nil {
		return nil, err
	}
	return p, nil
}
