package device

import (
	"context"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// modemWatcher is a Port that tells its modem inputs.
type modemWatcher interface {
	// WatchModem tells the modem lines that are on, at once and after each
	// change of an input, until ctx is done or the port is closed. It fails
	// at once if the port has none.
	WatchModem(ctx context.Context, changed func(line.ModemLines)) error
}

// modemLines are all that a port knows.
const modemLines = line.ModemOutputs | line.CTS | line.DSR | line.DCD | line.RI

// modemAgain is when a consumer that had no room for a change is told again.
const modemAgain = 200 * time.Millisecond

func modemControl(on line.ModemLines) session.Control {
	return session.Control{Kind: session.KindModem, Bits: uint64(on & modemLines), Mask: uint64(modemLines)}
}

// watch tells the modem lines of the port to all who use the device, as long
// as somebody does: a thread waits in the kernel for it. It runs until ctx is
// done or the port has no modem lines.
func (d *Device) watch(ctx context.Context, m modemWatcher) {
	for ctx.Err() == nil {
		d.mu.Lock()
		used, changed := len(d.leases) > 0, d.changed
		d.mu.Unlock()
		if !used {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := d.watchUsed(ctx, m); err != nil {
			d.log.Debug("modem lines are not watched", "err", err)
			return
		}
	}
}

// watchUsed watches until nobody uses the device.
func (d *Device) watchUsed(ctx context.Context, m modemWatcher) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- m.WatchModem(ctx, func(on line.ModemLines) {
			d.mu.Lock()
			d.modem, d.modems = on&modemLines, true
			d.mu.Unlock()
			wake(seen)
		})
	}()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		d.mu.Lock()
		used, changed := len(d.leases) > 0, d.changed
		d.mu.Unlock()
		if !used {
			cancel()
		} else if !d.tellModem() {
			again.Reset(modemAgain)
		}
		select {
		case <-seen:
		case <-changed:
		case <-again.C:
		case <-d.driven:
			d.look()
		case err := <-ended:
			d.mu.Lock()
			d.modems = false
			d.mu.Unlock()
			return err
		}
	}
}

// look reads the modem lines after their outputs were set: no edge tells that.
func (d *Device) look() {
	m, ok := d.slot.Current().(interface {
		Modem() (line.ModemLines, error)
	})
	if !ok {
		return
	}
	if on, err := m.Modem(); err == nil {
		d.mu.Lock()
		d.modem, d.modems = on&modemLines, true
		d.mu.Unlock()
	}
}

// tellModem tells all who do not know it how the modem lines stand. It
// reports whether all had room for that.
func (d *Device) tellModem() bool {
	d.telling.Lock()
	defer d.telling.Unlock()
	d.mu.Lock()
	leases, on, known := d.leases, d.modem, d.modems
	d.mu.Unlock()
	all := true
	for _, l := range leases {
		if !known || l.modem == int(on)+1 {
			continue
		}
		if l.link.OfferControl(modemControl(on)) {
			l.modem = int(on) + 1
		} else {
			all = false
		}
	}
	return all
}
