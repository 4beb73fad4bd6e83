package attach

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"sync"

	"github.com/serialspan/serialspan/bridge/internal/pty"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// runPTY keeps a PTY standing until ctx is done or an application had to be
// hung up, which only a new PTY behind the same link can do; both return nil.
// The session begins with the first open and ends with the last close.
func (t *attachment) runPTY(ctx context.Context) error {
	gid, err := groupID(t.spec.PTY.Group)
	if err != nil {
		return err
	}
	uid, err := userID(t.spec.PTY.Owner)
	if err != nil {
		return err
	}
	config := pty.Config{Link: t.spec.PTY.Link, Mode: t.spec.PTY.Mode, UID: uid, GID: gid}
	if config.Line = t.spec.Line; config.Line.IsZero() {
		if target, err := t.attacher.config.Resolve(t.spec.Device); err == nil {
			config.Line = target.Line // an application that sets nothing, or the same, gets what the device has
		}
	}
	tty, err := t.openPTY(config)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, tty.Interrupt)()
	t.setUp(tty.Path(), nil)
	t.log.Info("attachment stands", "path", tty.Path())
	var workers sync.WaitGroup
	reader := ptyReader{attachment: t, tty: tty, workers: &workers, line: t.wanted, seen: tty.Last().Line}
	reader.run(ctx)
	workers.Wait()
	t.leavePTY(ctx, tty, &reader)
	return nil
}

// userID returns the number of a user, 0 for none: then the agent's has the node.
func userID(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("look up user %q: %w; create it or name another", name, err)
	}
	return strconv.Atoi(u.Uid)
}

// groupID returns the number of a group, 0 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(group); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w; create it or name another", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// ptyReader turns what applications do with the PTY into a use's.
type ptyReader struct {
	attachment *attachment
	tty        *pty.PTY
	workers    *sync.WaitGroup
	use        *use.Use      // nil: no application has it open
	line       line.Settings // what an application has set
	seen       line.Settings // as last told of
	off        bool          // the application has set B0
	closing    bool          // it has closed, and its last bytes are for the next process to deliver
}

func (r *ptyReader) run(ctx context.Context) {
	defer func() {
		if r.use == nil {
			return
		}
		if !errors.Is(context.Cause(ctx), use.ErrEnds) { // or it ends by that
			r.use.Cancel(use.ErrLocalClosed)
		}
		r.use.Wait()
	}()
	r.goOn(ctx)
	buf := make([]byte, 4096) // pty.Read returns no more
	for {
		n, event, err := r.tty.Read(buf)
		if n > 0 && r.use != nil {
			_ = r.use.Send(buf[:n]) // fails when the use is over: the hang-up comes next
		}
		if event.What != 0 {
			r.handle(ctx, event)
		}
		if err != nil {
			return
		}
	}
}

func (r *ptyReader) handle(ctx context.Context, e pty.Event) {
	if e.What.Has(pty.Opened) && r.use == nil {
		r.begin(ctx)
	}
	// Of an application that was quick only its open is told.
	changed := e.What.Has(pty.LineChanged) || e.Line != r.seen
	r.seen = e.Line
	if r.use == nil {
		return
	}
	if changed {
		r.changed(e)
	}
	// PurgeOutput is passed on to nobody. An application that writes, drains and
	// flushes, as node-serialport does at each change of the baud rate, drops
	// nothing on a real line: the bytes have left. Here the kernel calls them
	// drained at once, and they are still on their way.
	if e.What.Has(pty.PurgeInput) {
		r.use.Purge(session.PurgeReceive)
	}
	if e.What.Has(pty.Closed) {
		if e.HangUpOnClose && !e.LinesOff {
			r.use.Drive(line.ModemOutputs, 0)
		}
		r.off = false
		r.close()
	}
}

// begin starts a use for an application that has opened.
func (r *ptyReader) begin(ctx context.Context) {
	r.use = r.attachment.begin(ctx, ptySink{r.tty}, r.wanted(), r.workers, func(err error) {
		if err != use.ErrLocalClosed && !errors.Is(err, use.ErrEnds) {
			r.attachment.keeping.drop()
			_ = r.tty.Close() // hangs up; runPTY comes again with a new one
		}
	})
}

// close ends the use of an application that has closed, once what it wrote is
// delivered.
func (r *ptyReader) close() {
	r.use.Finish(r.use.HoldTime())
	if r.closing = r.use.IsAtRest(); !r.closing {
		r.use = nil
	}
}

// changed passes on what the application set: the speed, the stop bits and the
// flow control, and with the speed B0, which turns DTR and RTS off until
// another is set (termios(3)). All this comes after what was written before.
func (r *ptyReader) changed(e pty.Event) {
	if r.off != e.LinesOff {
		r.off = e.LinesOff
		on := line.ModemOutputs
		if e.LinesOff {
			on = 0
		}
		r.use.Drive(line.ModemOutputs, on)
	}
	if r.line == e.Line {
		return
	}
	r.want(e.Line)
	if r.attachment.spec.Line.IsZero() {
		r.use.SetFrameless(e.Line)
	} else {
		r.use.SetLine(e.Line)
	}
}

// want notes what an application has set.
func (r *ptyReader) want(s line.Settings) {
	r.line = s
	r.attachment.mu.Lock()
	r.attachment.wanted = s
	r.attachment.mu.Unlock()
	r.attachment.note()
}

// wanted are the line settings for the next session: what an application set
// stays in force on a tty, also for the next one. Empty: none did.
func (r *ptyReader) wanted() string { return r.line.String() }

// ptySink is the PTY as the session writes to it.
type ptySink struct{ *pty.PTY }

func (ptySink) Apply(context.Context, session.Control) {}

func (ptySink) Purge(uint64) {}
