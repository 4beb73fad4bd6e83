package use

import (
	"fmt"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/link"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// State is how far an attachment is, or a use that has none.
type State uint8

// The states of an attachment.
const (
	// Waiting: no application has it open, or there was no session for it yet.
	Waiting State = iota
	// Connected: bytes flow.
	Connected
	// Holding: the way to the device broke; the application sees nothing of it.
	Holding
	// Kicked: another consumer took the device; this one waits.
	Kicked
	// Failed: the link or listener cannot be made.
	Failed
)

// String returns the state in lower case.
func (s State) String() string {
	return [...]string{"waiting", "connected", "holding", "kicked", "failed"}[s]
}

// Status is an attachment as it is, or a use that has none: then ID, Where and Age
// are not set.
type Status struct {
	ID     string
	Device string // as asked for
	Kind   string // "pty", "tcp", "rfc2217"
	Where  string // link path or the address listened on
	State  State
	Age    time.Duration // in this state, as far as it was looked at
	// Err is the last failure; nil if there is nothing in the way.
	Err   error
	Owner identity.NodeID // of the present session; zero: none
	// Session is the present one; zero: none.
	Session        session.ID
	Sent, Received uint64 // bytes to and from the device, over all sessions
	Resumed, Gaps  int
	Lost           uint64 // bytes in the gaps, at most
	// RoundTrip is that of the present session, between this node and the
	// device's owner; 0: not measured yet.
	RoundTrip time.Duration
	Line      line.Settings // in force, as far as is known
	Users     string        // who else uses the device; empty: nobody
}

// current returns the present session and its owner, or zero values.
func (u *Use) current() (session.ID, identity.NodeID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.link == nil {
		return session.ID{}, identity.NodeID{}
	}
	return u.link.ID, u.target.Owner
}

// View is a use as it is now.
type View struct {
	Totals
	Has, Connected bool  // a session, a stream
	Over           bool  // nothing more will come
	Failure        error // why there is no stream, or the device is away
	Trip           time.Duration
	Users          string
	Line           line.Settings
}

// View returns how the use is now.
func (u *Use) View() View {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := View{Totals: u.totals, Has: u.link != nil, Over: u.over, Failure: u.failure, Users: u.users, Line: u.inForce}
	if u.link != nil {
		var stats link.Stats
		stats, v.Connected = u.link.View()
		v.Add(totalsOf(stats))
		v.Trip = stats.Trip
	}
	if v.Failure == nil && u.away != "" {
		v.Failure = &AwayError{Device: u.Device, Text: u.away}
	}
	return v
}

// Status is a view for people, without what only an attachment has.
func (u *Use) Status() Status {
	seen := u.View()
	s := Status{
		Device: u.Device, Kind: u.Kind, Err: seen.Failure, RoundTrip: seen.Trip, Users: seen.Users, Line: seen.Line,
		Sent: seen.Sent, Received: seen.Received, Resumed: seen.Resumed, Gaps: seen.Gaps, Lost: seen.Lost,
	}
	switch {
	case seen.Connected && seen.Failure == nil:
		s.State = Connected
	case u.right.IsKicked():
		s.State = Kicked
	case seen.Has:
		s.State = Holding
	}
	s.Session, s.Owner = u.current()
	return s
}

// AwayError says that the device of a session that goes on is not there now:
// its owner keeps the session for the hold time. It unwraps to
// session.CodeGone.
type AwayError struct{ Device, Text string }

// Error says what the owner said.
func (e *AwayError) Error() string {
	return fmt.Sprintf("device %q is away, its session is kept: %s", e.Device, e.Text)
}

// Unwrap returns session.CodeGone.
func (e *AwayError) Unwrap() error { return session.CodeGone }

// Totals count over all sessions of a use or an attachment.
type Totals struct {
	Sent, Received uint64
	Resumed, Gaps  int
	Lost           uint64
}

// Add adds those of another session.
func (t *Totals) Add(o Totals) {
	t.Sent += o.Sent
	t.Received += o.Received
	t.Resumed += o.Resumed
	t.Gaps += o.Gaps
	t.Lost += o.Lost
}

// totalsOf are the counters of a link as its consumer sees them.
func totalsOf(s link.Stats) Totals {
	return Totals{Sent: s.Sent, Received: s.Received, Resumed: s.Resumed, Gaps: s.StaleGaps, Lost: s.Stale}
}
