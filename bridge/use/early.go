package use

import (
	"bytes"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// earlyMost is how much of an application's bytes a use keeps until there is a
// session; an application that writes more waits.
const earlyMost = 64 << 10

// earlyControl is what a thing other than bytes counts as.
const earlyControl = 64

// earlyItem is one thing that an application did before there was a session:
// it wrote data, asked for line settings, or something else.
type earlyItem struct {
	data      []byte
	line      line.Settings // zero: none
	frameless bool          // data bits and parity of line mean nothing
	control   session.Control
}

func (e *earlyItem) size() int {
	if e.data != nil {
		return len(e.data)
	}
	return earlyControl
}

// gather keeps what the application did until there is a session, and reports
// whether it has: not if there is one, or no room, or the use does not gather.
//
// It is for a PTY. Whoever reads that has to go on reading: a kernel tells of
// several changes of the settings as of one if nobody looks in between, and of
// the bytes written before and after a change not which is which.
func (u *Use) gather(e earlyItem) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.Gathers || u.over || u.link != nil && len(u.early) == 0 {
		return false
	}
	size := e.size()
	for i := range u.early {
		size += u.early[i].size()
	}
	if size > earlyMost {
		return false
	}
	e.data = bytes.Clone(e.data)
	u.early = append(u.early, e)
	return true
}

// earlyBytes counts the bytes that were gathered. mu is held.
func (u *Use) earlyBytes() (n int) {
	for i := range u.early {
		n += len(u.early[i].data)
	}
	return n
}

// tellEarly sends what was gathered on l, until nothing is left or the session
// is over; then the next goes on. Whoever sends meanwhile waits, or adds to it.
func (u *Use) tellEarly(l *link.Link) {
	u.telling.Lock()
	defer u.telling.Unlock()
	for {
		u.mu.Lock()
		if u.link != l || len(u.early) == 0 {
			u.mu.Unlock()
			return
		}
		e := u.early[0]
		u.mu.Unlock()
		n, err := u.sendEarly(l, e)
		u.mu.Lock()
		switch {
		case len(u.early) == 0: // the use is over
		case err != nil:
			u.early[0].data = e.data[n:]
		default:
			u.early = u.early[1:]
		}
		u.changed.Broadcast()
		u.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// sendEarly sends one thing and returns how many bytes of it the session took.
func (u *Use) sendEarly(l *link.Link, e earlyItem) (int, error) {
	switch {
	case e.data != nil:
		return l.Send(e.data)
	case !e.line.IsZero():
		return 0, l.Control(u.adopt(e.line, e.frameless))
	}
	return 0, l.Control(e.control)
}

// leaveEarlyLocked hands what was gathered to the next process. Settings go on
// as they were asked for: what is in force where the bytes before them are
// written, and with what framing, only a session will say. mu is held.
func (u *Use) leaveEarlyLocked() {
	for _, e := range u.early {
		switch {
		case e.data != nil:
			u.leaveLocked(handover.Step{Bytes: e.data})
		case !e.line.IsZero():
			u.leaveLocked(handover.Step{Line: e.line.String(), Frameless: e.frameless})
		default:
			u.leaveLocked(handover.Step{Control: e.control})
		}
	}
}
