package pty

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/rawio"
)

// MinRead is the smallest buffer for Read: the kernel's control byte needs one.
const MinRead = 2

// Read waits for the next thing an app does and returns either bytes (n > 0) or
// one event (What != 0), in the order that the package comment explains. One
// call returns at most 4095 bytes; b may be used as scratch space beyond n, so
// a buffer of 4096 bytes is best. Errors: ErrClosed, which also unblocks it;
// io.ErrShortBuffer if len(b) < MinRead.
func (p *PTY) Read(b []byte) (n int, event Event, err error) {
	if len(b) < MinRead {
		return 0, Event{}, io.ErrShortBuffer
	}
	for {
		switch {
		case !p.attached:
			event, err = p.awaitOpen()
		case len(p.dues) > 0:
			n, event = p.readHeld(b)
		default:
			n, err = p.readMaster(b)
			n, event, err = p.digest(b, n, err)
		}
		if n > 0 || event.What != 0 || err != nil {
			return n, event, err
		}
	}
}

// readMaster waits for the master to have something.
func (p *PTY) readMaster(b []byte) (int, error) {
	p.readBytes = b
	err := p.master.Read(p.readPark)
	p.readBytes = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // Interrupt
		return 0, err
	case err != nil:
		return 0, ErrClosed
	}
	return p.readN, p.readErr
}

// readAttempt is one try of readMaster; false parks it until the master is
// readable.
func (p *PTY) readAttempt(fd uintptr) bool {
	p.readN, p.readErr = rawio.Read(fd, p.readBytes)
	return p.readErr != unix.EAGAIN
}

// awaitOpen blocks until an app has it open or has left something behind.
func (p *PTY) awaitOpen() (Event, error) {
	var events int16
	err := p.control(func(fd int) error {
		var err error
		events, err = poll(fd)
		return err
	})
	if err != nil {
		return Event{}, err
	}
	if events&unix.POLLHUP == 0 || events&(unix.POLLIN|unix.POLLPRI) != 0 {
		return p.attach()
	}
	// The watch stands since Open, so an open after the poll has an event here.
	// Our own opens of the slave and those of second apps have one too: whoever
	// comes by, the poll decides.
	return Event{}, p.watch.await()
}

func (p *PTY) attach() (Event, error) {
	event := p.last
	if err := p.control(func(fd int) error { return p.snapshot(fd, &event) }); err != nil {
		return Event{}, err
	}
	p.last = event
	p.attached, p.fresh = true, true
	p.setOpened(true)
	event.What = Opened
	return event, nil
}

// detach notes the last close and throws away what no app has read, so that
// the next one does not find it.
func (p *PTY) detach() (Event, error) {
	p.attached = false
	p.setOpened(false)
	if err := p.control(p.discardInput); err != nil {
		return Event{}, err
	}
	event := p.last
	event.What = Closed
	return event, nil
}

func (p *PTY) setOpened(is bool) {
	p.mu.Lock()
	p.opened.Store(is)
	p.mu.Unlock()
}

// readHeld hands out the bytes that were written before a change of settings,
// then the change.
func (p *PTY) readHeld(b []byte) (int, Event) {
	first := &p.dues[0]
	if first.bytes > 0 {
		n := copy(b, p.held[:first.bytes])
		p.held = p.held[n:]
		first.bytes -= n
		return n, Event{}
	}
	event := first.event
	p.dues = p.dues[1:]
	if len(p.dues) == 0 {
		p.held, p.dues = nil, nil
	}
	return 0, event
}

// digest takes apart what one read of the master gave: the control byte in
// front is stripped and acted on.
func (p *PTY) digest(b []byte, n int, err error) (int, Event, error) {
	switch {
	case errors.Is(err, unix.EIO):
		event, err := p.detach()
		return 0, event, err
	case errors.Is(err, ErrClosed):
		return 0, Event{}, ErrClosed
	case err != nil:
		return 0, Event{}, fmt.Errorf("read pseudoterminal: %w", err)
	case n == 0:
		return 0, Event{}, nil
	}
	if b[0] == unix.TIOCPKT_DATA {
		p.fresh = false
		return copy(b, b[1:n]), Event{}, nil
	}
	event, err := p.report(b[0])
	return 0, event, err
}

// report acts on a control byte: purges are told at once, settings when the
// bytes before them were read.
func (p *PTY) report(bits byte) (Event, error) {
	var purged What
	err := p.control(func(fd int) error {
		var err error
		purged, err = p.collect(fd, bits)
		return err
	})
	event := p.last
	event.What = purged
	return event, err
}

// collect notes a change of settings and reads at once all bytes that were
// queued when it was reported. Counting them is not enough: the kernel's worker
// may not have moved the last of them to where they count, but a read that
// finds nothing waits for the worker (n_tty_read).
func (p *PTY) collect(fd int, bits byte) (What, error) {
	purged := purges(bits)
	if bits&unix.TIOCPKT_IOCTL == 0 {
		return purged, nil
	}
	changed, err := p.noteSettings(fd)
	if err != nil || !changed || p.fresh {
		return purged, err
	}
	var scratch [4096]byte
	final := &p.dues[len(p.dues)-1]
	for range maxCollect {
		n, err := unix.Read(fd, scratch[:])
		switch {
		case err == unix.EINTR:
		case err != nil || n <= 0:
			return purged, nil // EAGAIN, or EIO, which the next Read sees too
		case scratch[0] == unix.TIOCPKT_DATA:
			p.held = append(p.held, scratch[1:n]...)
			final.bytes += n - 1
		default:
			purged |= purges(scratch[0])
			if scratch[0]&unix.TIOCPKT_IOCTL == 0 {
				continue
			}
			if changed, err = p.noteSettings(fd); err != nil {
				return purged, err
			}
			if changed {
				final = &p.dues[len(p.dues)-1]
			}
		}
	}
	return purged, nil
}

// maxCollect bounds the reads of one collect. The kernel queues about 20 KiB
// and a read gives up to 4095 bytes, so everything from before the change is
// found; the bound is for an app that goes on writing.
const maxCollect = 16

func purges(bits byte) What {
	var w What
	if bits&unix.TIOCPKT_FLUSHREAD != 0 {
		w |= PurgeInput
	}
	if bits&unix.TIOCPKT_FLUSHWRITE != 0 {
		w |= PurgeOutput
	}
	return w
}

// noteSettings reads the settings back and queues an event if they changed.
func (p *PTY) noteSettings(fd int) (bool, error) {
	event := p.last
	if err := p.snapshot(fd, &event); err != nil || event == p.last {
		return false, err
	}
	p.last = event
	event.What = LineChanged
	p.dues = append(p.dues, due{event: event})
	return true, nil
}
