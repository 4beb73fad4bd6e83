package device

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/backoff"
	"github.com/serialspan/serialspan/bridge/internal/inventory"
	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/internal/slot"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Pauses before a port is opened again; a change of the hardware ends one.
const (
	reopenFirst = 100 * time.Millisecond // udev may still be setting modes
	reopenMost  = 5 * time.Second
)

var (
	// errUnwanted ends the use of a port: it shall be another, or none.
	errUnwanted = errors.New("it is not wanted any more")
	// errNotTaken ends the use of a port that takes no bytes.
	errNotTaken = errors.New("it takes no bytes any more")
	// errWithdrawn ends a device that the policy does not choose any more.
	errWithdrawn = errors.New("it is not published any more")
)

// Config is what the devices of a node have in common. No field may be left out.
type Config struct {
	// Open opens a port.
	Open func(PortSpec) (slot.Port, error)
	// NameOf returns a member's name for texts that people read.
	NameOf func(identity.NodeID) string
	// Window is how many bytes each direction of a session keeps.
	Window int
	// Graves remember the sessions of all devices of the node.
	Graves *Graves
	// Changed is told when what View or Sessions return may have changed. It does
	// not block.
	Changed func()
	// Lost is told when a port was lost, whose hardware may be elsewhere now. It
	// does not block.
	Lost func()
	// Logger. Required.
	Logger *slog.Logger
}

// Device is a published device: its port, opened again and again, and the
// leases of those who use it, which outlive a port that is lost for as long as
// hold. Its goroutines belong to Run, which belongs to Publisher.Run: one that
// opens and closes the port, one that reads it, one that watches its modem
// lines while somebody uses the device.
type Device struct {
	config Config
	log    *slog.Logger
	name   string
	cancel context.CancelCauseFunc // with errWithdrawn if only this device comes to its end
	poke   chan struct{}           // want changed, or the hardware may have

	// gate is held while a lease is given or taken away, which may have to
	// wait for the port.
	gate chan struct{}
	// reading is held by the reader of the port: what was read from a port
	// that is gone is handed over before anything of the next.
	reading chan struct{}
	// signalling is held by whoever changes the port's outputs.
	signalling chan struct{}
	driven     chan struct{} // outputs were changed
	// telling orders what is told of the others.
	telling sync.Mutex
	slot    *slot.Slot
	workers sync.WaitGroup // readers and watchers; Add by Run, or under mu unless closed

	mu      sync.Mutex
	want    inventory.Want
	release context.CancelCauseFunc       // makes run give the port back, while it is open
	fault   string                        // why the port is not open; empty: it is, or was not tried
	away    bool                          // fault means that nothing is there
	opens   int                           // how often the port was opened
	set     settings                      // by the sessions; over the rule's
	kept    struct{ dtr, rts line.Drive } // by people; for every session
	can     []string                      // capabilities of the port, as it was last open
	modem   line.ModemLines               // as last seen
	modems  bool                          // modem is known
	leases  []*lease                      // in the order of their begin; replaced, never changed in place
	users   atomic.Pointer[[]*lease]      // leases, for the reader of the port, who may not wait for mu
	changed chan struct{}                 // closed and made anew when leases change
	refused map[identity.NodeID]bool      // whom the rule did not let in; said in the log
	queue   []ticket                      // of those who wait for the device
	leaving bool                          // the hardware moved to another owner
	closed  session.CloseError            // run is over, and why; zero: it is not
}

// settings are what a port shall have beyond what its rule says. Zero fields
// say nothing.
type settings struct {
	line     line.Settings
	dtr, rts line.Drive
}

// New returns a device that does nothing until Run. cancel cancels the context
// of Run.
func New(config Config, w inventory.Want, cancel context.CancelCauseFunc) *Device {
	d := &Device{
		config: config, log: config.Logger.With("device", w.Name), name: w.Name, cancel: cancel,
		poke: make(chan struct{}, 1), gate: make(chan struct{}, 1), reading: make(chan struct{}, 1), signalling: make(chan struct{}, 1), driven: make(chan struct{}, 1),
		slot: slot.New(), want: w, changed: make(chan struct{}),
	}
	d.users.Store(new([]*lease))
	return d
}

// Withdraw makes Run come to its end, since the policy does not choose the device
// any more; its sessions end with session.CodeWithdrawn.
func (d *Device) Withdraw() { d.cancel(errWithdrawn) }

// Update takes over a changed rule or place of the hardware. A port that is
// open stays open unless it has to be another. eventful: what was in the way of
// opening it may have gone.
func (d *Device) Update(w inventory.Want, eventful bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.want
	d.want = w
	d.can = capabilities(len(d.can) > 0, w.Profile)
	d.leaving = d.leaving && !w.Present
	if !slices.Equal(old.Rule.Allow, w.Rule.Allow) || !slices.Equal(old.Rule.AllowRead, w.Rule.AllowRead) {
		d.refused = nil
	}
	if old.Openable() == w.Openable() && specOf(old) == specOf(w) {
		if eventful && d.release == nil {
			wake(d.poke)
		}
		if d.release != nil && d.slot.IsDead() {
			d.release(errNotTaken) // its reader may be waiting for a consumer
		}
		return
	}
	if d.release != nil {
		d.release(errUnwanted)
	}
	wake(d.poke)
	d.config.Changed()
}

// specOf says how the port of w is to be opened.
func specOf(w inventory.Want) PortSpec {
	return PortSpec{Path: w.Candidate.Path, Line: w.Rule.Line, DTR: w.Rule.DTR, RTS: w.Rule.RTS, RS485: w.Rule.RS485}
}

// Run keeps the port open until ctx is done. Sessions wait for a port that
// was lost for as long as hold.
func (d *Device) Run(ctx context.Context) {
	pause := backoff.Backoff{First: reopenFirst, Most: reopenMost}
	hold := time.NewTimer(time.Hour)
	hold.Stop()
	for ctx.Err() == nil {
		var again <-chan time.Time
		if d.isOpenable() {
			began := time.Now()
			was, err := d.once(ctx, hold)
			if ctx.Err() != nil {
				break
			}
			if time.Since(began) > reopenMost {
				pause.Reset()
			}
			d.lost(was, err)
			again = time.After(pause.Next())
		}
		select {
		case <-again:
		case <-d.poke:
			pause.Reset()
		case <-hold.C:
			d.end(nil, session.CloseError{Code: session.CodeGone, Text: d.whyGone()})
		case <-ctx.Done():
		}
	}
	hold.Stop()
	d.mu.Lock()
	d.closed = closing(ctx)
	d.mu.Unlock()
	d.end(nil, closing(ctx))
	d.workers.Wait()
}

// closing is what a device whose ctx is done tells its consumers.
func closing(ctx context.Context) session.CloseError {
	if errors.Is(context.Cause(ctx), errWithdrawn) {
		return session.CloseError{Code: session.CodeWithdrawn}
	}
	return session.CloseError{Code: session.CodeShuttingDown}
}

func (d *Device) isOpenable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want.Openable()
}

// once opens the port, sets everything again, and lends it out until it is
// lost, ctx is done, or update wants another. It reports whether the port was
// open, and then starts hold.
func (d *Device) once(ctx context.Context, hold *time.Timer) (was bool, err error) {
	d.mu.Lock()
	wanted := specOf(d.want)
	spec := d.set.over(wanted)
	d.mu.Unlock()
	port, err := d.config.Open(spec)
	if err != nil {
		return false, err
	}
	d.note(port)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !d.opened(ctx, wanted, port, cancel) {
		_ = port.Close()
		return false, errUnwanted
	}
	hold.Stop()
	d.workers.Go(func() { cancel(d.pump(inner, port)) })
	if m, ok := port.(modemWatcher); ok {
		d.workers.Go(func() { d.watch(inner, m) })
	}
	<-inner.Done()
	if ctx.Err() != nil {
		d.end(nil, closing(ctx)) // before the port is taken from them
	}
	d.slot.Take()
	d.mu.Lock()
	d.release, d.modems = nil, false
	d.mu.Unlock()
	_ = port.Close() // unblocks its reader
	hold.Reset(d.holdTime())
	return true, context.Cause(inner)
}

func (s settings) over(spec PortSpec) PortSpec {
	if !s.line.IsZero() {
		spec.Line = s.line
	}
	if s.dtr != line.DriveUnchanged {
		spec.DTR = s.dtr
	}
	if s.rts != line.DriveUnchanged {
		spec.RTS = s.rts
	}
	return spec
}

// opened makes port the device's, unless that came to an end or changed
// meanwhile.
func (d *Device) opened(ctx context.Context, wanted PortSpec, port slot.Port, release context.CancelCauseFunc) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil || specOf(d.want) != wanted || !d.want.Openable() {
		return false
	}
	d.fault, d.away, d.release = "", false, release
	d.opens++
	d.slot.Put(port, func() { release(errNotTaken) })
	d.log.Info("port opened", "path", wanted.Path)
	d.config.Changed()
	return true
}

// takingReader is a Port whose Read can tell when it takes bytes from the driver:
// taking is called right before. It must not wait for a lock.
type takingReader interface {
	ReadTaking(p []byte, taking func()) (int, error)
}

// pump reads the port until it fails. What arrives while nobody uses the device
// is dropped: bytes are for those who had it when they were taken from the
// driver, not for who came while they were on their way here.
func (d *Device) pump(ctx context.Context, port slot.Port) error {
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.tellReopened()
	var users []*lease
	taking := func() { users = *d.users.Load() }
	read := func(p []byte) (int, error) {
		n, err := port.Read(p)
		taking()
		return n, err
	}
	if r, ok := port.(takingReader); ok {
		read = func(p []byte) (int, error) { return r.ReadTaking(p, taking) }
	}
	buf := make([]byte, session.MaxData) // what one DATA frame carries
	for {
		n, err := read(buf)
		if n > 0 {
			d.hand(buf[:n], users)
		}
		if err != nil {
			return err
		}
	}
}

// lost notes why the port is not open. was: it was open until now; then those
// who use the device are told that it is away.
func (d *Device) lost(was bool, err error) {
	text := "cannot be opened"
	if err != nil {
		text = err.Error()
	}
	d.mu.Lock()
	switch {
	case !d.want.Present:
		text = "unplugged"
	case errors.Is(err, errUnwanted):
		text = "being opened anew"
	}
	said := d.fault == text
	d.fault, d.away = text, isAway(err)
	users, openable := d.leases, d.want.Openable()
	d.mu.Unlock()
	if was && len(users) > 0 {
		d.log.Warn("device is away, its sessions are held", "hold", d.holdTime(), "err", text)
	} else if was || openable && !said {
		d.log.Warn("port is not open, retrying", "err", text)
	}
	if was {
		d.config.Lost() // it may be elsewhere by now
		for _, l := range users {
			l.link.OfferControl(session.Control{Kind: session.KindPort, Bits: session.PortAway, Text: clip(text)})
		}
	}
	d.config.Changed()
}

// isAway tells a device that is not there from one that cannot be used.
func isAway(err error) bool {
	return errors.Is(err, port.ErrGone) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errUnwanted) || errors.Is(err, errNotTaken)
}

// whyGone says what ends sessions that waited for the port.
func (d *Device) whyGone() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.want.Present:
		return "unplugged"
	case d.fault == "":
		return "being opened"
	}
	return d.fault
}

func (d *Device) holdTime() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want.Rule.Hold
}

// clip makes text fit into a control.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), session.MaxText)], "")
}

// wake wakes the one who waits for ch, once.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
