package bridge

import (
	"log/slog"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/registry"
)

// discoverPorts lists this machine's ttys as sysfs shows them.
func discoverPorts() ([]Candidate, error) {
	found, err := port.Discover("/sys")
	if err != nil {
		return nil, err
	}
	candidates := make([]Candidate, 0, len(found))
	for _, f := range found {
		c := Candidate{Path: f.Path, Product: f.Product, Skip: string(f.Skip)}
		if f.VID != "" {
			c.Hardware = registry.Hardware{
				VID: f.VID, PID: f.PID, Serial: f.Serial, Interface: f.Interface, Port: f.PortPath,
			}
		}
		candidates = append(candidates, c)
	}
	return candidates, nil
}

// openPort opens a tty of this machine.
func openPort(spec PortSpec, log *slog.Logger) (Port, error) {
	p, err := port.Open(port.Config{Path: spec.Path, Line: spec.Line, DTR: spec.DTR, RTS: spec.RTS, Logger: log})
	if err != nil {
		return nil, err
	}
	return p, nil
}
