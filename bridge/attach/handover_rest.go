package attach

import (
	"cmp"
	"context"
	"errors"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/pty"
	"github.com/serialspan/serialspan/bridge/use"
)

// goOn hands a new use what is left of the one of the process before, if it is
// the first.
func (t *attachment) goOn(u *use.Use) {
	t.mu.Lock()
	r := t.rest
	t.rest = nil
	t.mu.Unlock()
	switch {
	case r == nil:
	case r.Use != nil:
		err := u.Resume(r.Session, r.Use)
		if err == nil {
			return
		}
		t.mu.Lock()
		t.totals.Add(use.Totals{Gaps: 1})
		t.mu.Unlock()
		t.log.Warn("session of the agent before cannot go on; what was on its way is lost, in both directions", "session", r.Session, "unknown", true, "err", err)
		u.Replace(r.Session)
	case r.Kind != handover.AtRest && (r.InUse || r.Kind == 0):
		u.Replace(r.Session)
	}
}

// isKept reports whether there is a store that keeps the attachment's terminal.
func (t *attachment) isKept() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.keeping != nil
}

// goOn makes the reader go on where that of the process before left.
func (r *ptyReader) goOn(ctx context.Context) {
	r.attachment.mu.Lock()
	from := r.attachment.rest
	r.attachment.mu.Unlock()
	if from == nil {
		return
	}
	if from.Kind != handover.AtRest {
		// What was told is not known; what it was told of, is.
		if seen := cmp.Or(r.line, knownLine(from.Initial)); !seen.IsZero() {
			r.seen = seen
		}
		return
	}
	if from.Use == nil {
		return
	}
	r.off = from.Use.LinesOff
	r.begin(ctx)
	for _, step := range from.Use.Unsent {
		r.use.Again(step)
	}
	if from.Use.Closing {
		r.close()
	}
}

// leavePTY leaves the terminal to the next process, if there is one to keep it
// and this one ends; otherwise it closes it, which hangs the applications up.
// The reader and all who write have ended.
func (t *attachment) leavePTY(ctx context.Context, tty *pty.PTY, r *ptyReader) {
	t.mu.Lock()
	k := t.keeping
	t.mu.Unlock()
	if k == nil || !errors.Is(context.Cause(ctx), use.ErrEnds) {
		k.drop()
		_ = tty.Close()
		return
	}
	state, err := tty.Suspend()
	if err != nil { // the use ended just now, and the applications with it
		k.drop()
		return
	}
	t.mu.Lock()
	record := handover.Record{
		Kind: handover.AtRest, Kicked: t.right.IsKicked(), Wanted: t.wanted.String(), Terminal: terminalOf(state),
		Totals: handover.Totals{Sent: t.totals.Sent, Received: t.totals.Received, Resumed: t.totals.Resumed, Gaps: t.totals.Gaps, Lost: t.totals.Lost},
	}
	t.mu.Unlock()
	if r.use != nil {
		record.InUse = true
		record.Use, record.Session = r.use.AtRest()
		record.Use.LinesOff, record.Use.Closing = r.off, r.closing
	}
	k.write(record)
	k.left()
	t.log.Info("terminal is left to the next agent", "session", record.Session)
}

func stateOf(r handover.Record) *pty.State {
	event := func(s handover.Settings) pty.Event {
		return pty.Event{Line: knownLine(s.Line), HangUpOnClose: s.HangUpOnClose, LinesOff: s.LinesOff}
	}
	s := &pty.State{Opened: r.Terminal.Opened, Fresh: r.Terminal.Fresh, Last: event(r.Terminal.Settings), Held: r.Terminal.Held}
	for _, c := range r.Terminal.Changes {
		changed := event(c.Settings)
		changed.What = pty.LineChanged
		s.Changes = append(s.Changes, pty.Change{After: c.After, Event: changed})
	}
	return s
}

func terminalOf(s pty.State) *handover.Terminal {
	settings := func(e pty.Event) handover.Settings {
		return handover.Settings{Line: e.Line.String(), HangUpOnClose: e.HangUpOnClose, LinesOff: e.LinesOff}
	}
	t := &handover.Terminal{Settings: settings(s.Last), Fresh: s.Fresh, Held: s.Held, Opened: s.Opened}
	for _, c := range s.Changes {
		t.Changes = append(t.Changes, handover.Change{After: c.After, Settings: settings(c.Event)})
	}
	return t
}
