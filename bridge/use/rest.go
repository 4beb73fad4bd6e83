package use

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
)

// ErrEnds is the cause of an Attacher's contexts at its end: what can go on in the
// next process is laid to rest and not closed.
var ErrEnds = fmt.Errorf("attacher ends: %w", context.Canceled)

// rest is what a use leaves to the next process, and has from the one
// before. Guarded by use.mu.
type rest struct {
	unknown bool // more than use.gap was lost that cannot be counted
	leaving bool // the Attacher ends
	unsent  []handover.Step
	id      session.ID // of the session at rest; zero: there was none
	target  Target
	end     []byte
	age     time.Duration // of the link
	clock   time.Duration // when that was
}

// leave ends the session as the end of ctx asks for: it is closed, or laid to
// rest without a word to the owner, who then keeps it for hold.
func (u *Use) leave(ctx context.Context) {
	if !u.Keeps || !errors.Is(context.Cause(ctx), ErrEnds) {
		u.drop(session.CloseError{Code: session.CodeNormal})
		return
	}
	u.mu.Lock()
	u.rest.leaving = true
	l, target := u.link, u.target
	u.link = nil
	u.mu.Unlock()
	if l == nil {
		return
	}
	end, age, ok := l.Park()
	u.farewells.Go(l.Wait)
	if !ok {
		return
	}
	stats, _ := l.View()
	u.mu.Lock()
	u.totals.Add(totalsOf(stats))
	u.rest.id, u.rest.target, u.rest.end, u.rest.age, u.rest.clock = l.ID, target, end, age, monotonic()
	u.mu.Unlock()
}

// unsentMost is how many bytes that were read one after another are left as
// one: as many as a read of the terminal would have returned a little later.
const unsentMost = 4096

// leaveUnsent takes what a session did not, if the use is laid to rest. Before
// finished it gets something only while nothing is early, and what comes after
// that is early; so the order is that of the application.
func (u *Use) leaveUnsent(s handover.Step) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rest.leaving {
		u.leaveLocked(s)
	}
}

// leaveLocked adds a copy of s. Single bytes go together: a record has no room
// for a step of each. mu is held.
func (u *Use) leaveLocked(s handover.Step) {
	if n := len(u.rest.unsent); n > 0 && len(s.Bytes) > 0 {
		last := &u.rest.unsent[n-1]
		if len(last.Bytes) > 0 && len(last.Bytes)+len(s.Bytes) <= unsentMost {
			last.Bytes = append(last.Bytes, s.Bytes...)
			return
		}
	}
	s.Bytes = bytes.Clone(s.Bytes)
	u.rest.unsent = append(u.rest.unsent, s)
}

// Again does what the application did and the process before has not told. If
// the use is over, that is left again.
func (u *Use) Again(s handover.Step) {
	set, _ := line.Parse(s.Line) // zero if it says nothing
	switch {
	case len(s.Bytes) > 0:
		_ = u.Send(s.Bytes) // fails when the use is over
	case !set.IsZero():
		u.request(set, s.Frameless)
	case s.Control.Kind == session.KindPurge:
		u.Purge(s.Control.Bits)
	default:
		u.Control(s.Control)
	}
}

// IsAtRest reports whether the use was laid to rest.
func (u *Use) IsAtRest() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rest.leaving
}

// AtRest returns what the use leaves, and the ID of its session or, if it has
// none, of the next. It is over.
func (u *Use) AtRest() (*handover.Use, session.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := &u.rest
	return &handover.Use{
		End: r.end, Owner: r.target.Owner, Name: r.target.Device, Hold: int64(u.hold), Age: int64(r.age), Clock: int64(r.clock),
		Line: u.line, Begun: u.begun, Gap: u.gap, Unknown: r.unknown, Unsent: r.unsent,
		Attempts: u.attempts,
	}, cmp.Or(r.id, u.next)
}

// Resume makes a use that was not started go on where another left.
func (u *Use) Resume(id session.ID, from *handover.Use) error {
	u.line, u.begun, u.gap, u.rest.unknown = from.Line, from.Begun, from.Gap, from.Unknown
	if len(from.End) == 0 {
		// An OPEN with this ID may have reached the owner, and the answer nobody.
		u.supersede(id)
		return nil
	}
	if from.Hold > 0 {
		u.hold = time.Duration(from.Hold)
	}
	end, err := session.Restore(u.config.Window, from.End)
	if err != nil {
		return err
	}
	u.attempts = from.Attempts
	// Its clock goes on: how old bytes are does not change by a restart.
	away := max(0, monotonic()-time.Duration(from.Clock))
	l := link.Restore(id, end, time.Duration(from.Age)+away, u.sink(), u.log)
	u.link, u.target = l, Target{Owner: from.Owner, Device: from.Name}
	return nil
}

// Replace makes a use that was not started take the place of a session whose
// consumer was killed; the owner is told that bytes are lost.
func (u *Use) Replace(id session.ID) {
	u.supersede(id)
	u.rest.unknown = true
}

// supersede makes the first session take the place of another, which the owner
// ends however busy the device is.
func (u *Use) supersede(id session.ID) {
	if id != (session.ID{}) {
		u.right.ask(id)
	}
}

// tell says that the session changed.
func (u *Use) tell() {
	if u.Told != nil {
		u.Told()
	}
}

// Latest returns the ID of the present session, or of the next.
func (u *Use) Latest() session.ID {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.link != nil {
		return u.link.ID
	}
	return u.next
}

// monotonic is the machine's clock since it started, the same in all processes.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
