package attach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/internal/pty"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/bridge/use"
)

// FileStore keeps open files beyond the life of this process and has those that
// an earlier one left: a service manager's store of file descriptors. Names are
// ASCII without colons, at most 255 bytes. It is safe for concurrent use.
type FileStore interface {
	// Names returns what is left of earlier processes and was not taken.
	Names() []string
	// Take returns the files under a name, once; the caller closes them, and
	// the store keeps them all the same. nil: there are none.
	Take(name string) []*os.File
	// Keep adds files to those under a name; the caller keeps its own.
	Keep(name string, files ...syscall.Conn) error
	// Drop forgets and closes all files under a name.
	Drop(name string) error
}

// keptPrefix is that of the names which this package gives.
const keptPrefix = "pty-"

// keptName is what a PTY attachment's files are called: the same in each run
// for the same device at the same place, and another for another device, whose
// application must not be given this one's terminal.
func keptName(s Spec) string {
	sum := sha256.Sum256([]byte(s.PTY.Link + "\x00" + s.Device))
	return keptPrefix + hex.EncodeToString(sum[:8])
}

// keeping is what an attachment has in the store: its terminal's master and the
// memory of its record. A nil one keeps nothing.
type keeping struct {
	store  FileStore
	name   string
	log    *slog.Logger
	device string
	link   string
	// initial are the settings that the terminal was made with.
	initial line.Settings

	mu     sync.Mutex
	memory *os.File
	gone   bool // dropped or left: nothing is written any more
}

// running says that this process is at work.
func (k *keeping) running(inUse, kicked bool, id session.ID, wanted line.Settings) {
	if k != nil {
		k.write(handover.Record{Kind: handover.Running, InUse: inUse, Kicked: kicked, Session: id, Wanted: wanted.String()})
	}
}

func (k *keeping) write(r handover.Record) {
	r.Device, r.Link, r.Initial = k.device, k.link, k.initial.String()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return
	}
	if err := handover.Write(k.memory, r); err != nil {
		k.log.Warn("state is not kept for a restart, it will cost a gap", "err", err)
	}
}

// drop takes the terminal from the store, so that closing it hangs it up.
func (k *keeping) drop() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return
	}
	k.gone = true
	if err := k.store.Drop(k.name); err != nil {
		k.log.Warn("terminal is not released by the service manager", "err", err)
	}
	_ = k.memory.Close()
}

// left closes our end of the memory; the store has another.
func (k *keeping) left() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = true
	_ = k.memory.Close()
}

// openPTY goes on with the terminal that an earlier process left, or makes one
// and has it kept.
func (t *attachment) openPTY(c pty.Config) (*pty.PTY, error) {
	t.mu.Lock()
	t.keeping, t.rest, t.wanted = nil, nil, t.spec.Line
	t.mu.Unlock()
	store := t.attacher.config.Files
	if store == nil {
		return pty.Open(c)
	}
	k := &keeping{store: store, name: keptName(t.spec), log: t.log, device: t.spec.Device, link: t.spec.PTY.Link}
	if files := store.Take(k.name); len(files) > 0 {
		tty, err := t.adopt(c, k, files)
		if err == nil {
			return tty, nil
		}
		t.log.Warn("terminal of the agent before cannot be taken over, its applications are hung up", "err", err)
		if err := store.Drop(k.name); err != nil {
			t.log.Warn("terminal is not released by the service manager", "err", err)
		}
	}
	tty, err := pty.Open(c)
	if err != nil {
		return nil, err
	}
	k.initial = tty.Last().Line
	if k.memory, err = handover.Create("serialspan"); err == nil {
		t.keepBy(k)
		t.note()
		if err = store.Keep(k.name, tty, k.memory); err == nil {
			return tty, nil
		}
		t.keepBy(nil)
		_ = k.memory.Close()
	}
	t.log.Warn("terminal will not survive a restart of the agent", "err", err)
	return tty, nil
}

func (t *attachment) keepBy(k *keeping) {
	t.mu.Lock()
	t.keeping = k
	t.mu.Unlock()
}

// note writes down who uses the attachment now.
func (t *attachment) note() {
	t.mu.Lock()
	k, u, wanted := t.keeping, t.use, t.wanted
	t.mu.Unlock()
	var id session.ID
	if u != nil {
		id = u.Latest()
	}
	k.running(u != nil, t.right.IsKicked(), id, wanted)
}

// masterAndMemory tells the two apart: a store gives them back in any order.
func masterAndMemory(files []*os.File) (master, memory *os.File, err error) {
	for _, f := range files {
		switch is := pty.IsMaster(f); {
		case is && master == nil:
			master = f
		case !is && memory == nil:
			memory = f
		default:
			_ = f.Close()
		}
	}
	if master == nil || memory == nil {
		for _, f := range []*os.File{master, memory} {
			if f != nil {
				_ = f.Close()
			}
		}
		return nil, nil, fmt.Errorf("take over terminal: %d files, want a terminal's master and a record", len(files))
	}
	return master, memory, nil
}

// adopt takes the terminal over. It takes over the files too, also if it fails.
func (t *attachment) adopt(c pty.Config, k *keeping, files []*os.File) (*pty.PTY, error) {
	master, memory, err := masterAndMemory(files)
	if err != nil {
		return nil, err
	}
	k.memory = memory
	record, unread := handover.Read(memory)
	if t.spec.Line.IsZero() && record.Initial != "" {
		c.Line, _ = line.Parse(record.Initial) // the framing that the application has seen
	}
	var state *pty.State
	if record.Kind == handover.AtRest {
		state = stateOf(record)
	}
	tty, err := pty.Adopt(c, master, state)
	if err != nil {
		_ = memory.Close()
		return nil, err
	}
	if k.initial = knownLine(record.Initial); k.initial.IsZero() {
		k.initial = tty.Last().Line
	}
	// From here on another process must not go on from this record.
	k.running(record.InUse, record.Kicked, record.Session, knownLine(record.Wanted))
	t.inherit(k, record, unread)
	return tty, nil
}

func knownLine(text string) line.Settings {
	s, _ := line.Parse(text) // zero if it says nothing
	return s
}

// inherit takes over what the record says.
func (t *attachment) inherit(k *keeping, r handover.Record, unread error) {
	if r.Kicked {
		t.right.Lose()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keeping, t.rest, t.wanted = k, &r, knownLine(r.Wanted)
	t.totals.Add(use.Totals{Sent: r.Totals.Sent, Received: r.Totals.Received, Resumed: r.Totals.Resumed, Gaps: r.Totals.Gaps, Lost: r.Totals.Lost})
	switch {
	case r.Kind == handover.AtRest:
		t.log.Info("terminal taken over from the agent before", "session", r.Session)
	case unread == nil && !r.InUse:
		t.log.Info("terminal taken over from an agent that was killed; nobody used it")
	default:
		t.totals.Add(use.Totals{Gaps: 1})
		t.log.Warn("terminal taken over from an agent that was killed; what was on its way is lost, in both directions", "session", r.Session, "unknown", true, "err", unread)
	}
}

// releaseLocked gives up the terminals of attachments that are not wanted any
// more. mu is held.
func (a *Attacher) releaseLocked() {
	store := a.config.Files
	if store == nil {
		return
	}
	wanted := map[string]bool{}
	for _, t := range a.attachments {
		if t.spec.PTY != nil {
			wanted[keptName(t.spec)] = true
		}
	}
	for _, name := range store.Names() {
		if wanted[name] || !strings.HasPrefix(name, keptPrefix) {
			continue
		}
		link := ""
		master, memory, err := masterAndMemory(store.Take(name))
		if err == nil {
			record, _ := handover.Read(memory) // an unreadable one names no link
			link = record.Link
			err = errors.Join(pty.Release(master, link), memory.Close())
		}
		if err = errors.Join(err, store.Drop(name)); err != nil {
			a.config.Logger.Warn("terminal of an attachment that is not wanted any more is not released whole", "path", link, "err", err)
			continue
		}
		a.config.Logger.Info("terminal of an attachment that is not wanted any more is released", "path", link)
	}
}

// Standing waits until a first attempt was made to set up each attachment that
// there is, or ctx is done.
func (a *Attacher) Standing(ctx context.Context) error {
	a.mu.Lock()
	all := make([]*attachment, 0, len(a.attachments))
	for _, t := range a.attachments {
		all = append(all, t)
	}
	a.mu.Unlock()
	for _, t := range all {
		select {
		case <-t.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
