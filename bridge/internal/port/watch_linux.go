package port

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/line"
)

const (
	// modemPoll is how often a driver without TIOCMIWAIT is asked.
	modemPoll = 100 * time.Millisecond
	// modemCheck is when the lines are read once more after a change: the
	// kernel does not tell of one that falls between a read and the next wait.
	modemCheck = 50 * time.Millisecond
	// modemSlow is how often the lines are read anyway: a driver may have the
	// wait and never end it (cp210x, without its event mode). One that missed a
	// change so is asked every modemPoll from then on.
	modemSlow = time.Second
)

// WatchModem tells which modem lines are on, at once and then after each change
// of CTS, DSR, DCD or RI, from the caller's goroutine. It blocks until ctx is
// done or the port is closed, and returns nil then. A second thread waits in
// the kernel (TIOCMIWAIT) meanwhile; where the driver cannot do that, or
// turns out not to, the lines are read every 100 ms. Errors: ErrNoModemLines, ErrGone.
func (p *Port) WatchModem(ctx context.Context, changed func(on line.ModemLines)) error {
	on, err := p.Modem()
	if err != nil {
		return ended(err)
	}
	changed(on)
	look := func() error {
		now, err := p.Modem()
		if err == nil && now != on {
			on = now
			changed(on)
		}
		return err
	}
	edges := make(chan struct{}, 1)
	waiter, err := startInterruptible(func() error {
		err := p.control(func(fd int) error {
			return unix.IoctlSetInt(fd, unix.TIOCMIWAIT, unix.TIOCM_CTS|unix.TIOCM_DSR|unix.TIOCM_CD|unix.TIOCM_RNG)
		})
		if err == nil {
			select {
			case edges <- struct{}{}:
			default:
			}
		}
		return err
	})
	if err != nil {
		return p.pollModem(ctx, look)
	}
	defer waiter.stop()
	check := time.NewTimer(modemCheck)
	defer check.Stop()
	slow, missed := false, false
	for {
		before := on
		select {
		case <-edges:
			slow, missed = false, false
			check.Reset(modemCheck)
		case <-check.C:
			if missed {
				waiter.stop()
				return p.pollModem(ctx, look)
			}
			missed, slow = slow, true
			check.Reset(modemSlow)
		case <-ctx.Done():
			return nil
		case <-p.closing:
			return nil
		case <-waiter.ended:
			if isGone(waiter.err) || errors.Is(waiter.err, ErrClosed) {
				return ended(p.failed("watch", waiter.err))
			}
			return p.pollModem(ctx, look) // ENOTTY, EINVAL: the driver has no such wait
		}
		if err := look(); err != nil {
			return ended(err)
		}
		// A slow look that finds a change has come before its edge, or there is none.
		if missed = missed && (before^on)&^line.ModemOutputs != 0; missed {
			check.Reset(modemCheck)
		}
	}
}

func (p *Port) pollModem(ctx context.Context, look func() error) error {
	ticker := time.NewTicker(modemPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		case <-p.closing:
			return nil
		}
		if err := look(); err != nil {
			return ended(err)
		}
	}
}

// ended makes the end of the port by Close no error.
func ended(err error) error {
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}
