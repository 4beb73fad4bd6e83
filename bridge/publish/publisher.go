package publish

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/device"
	"github.com/serialspan/serialspan/bridge/internal/inventory"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// Config configures a Publisher.
type Config struct {
	// NodeName is .Node in names. Default "node".
	NodeName string
	// Rules are tried in order; the first that matches counts.
	Rules []rule.Rule
	// Publish says what is published. Default PublishKnown.
	Publish rule.Publish
	// Profiles are what is known about kinds of devices; see package profile.
	Profiles []profile.Profile
	// Labels are the node's; all its devices have them.
	Labels map[string]string
	// Watch tells when Discover may have something new, until ctx is done; it
	// calls changed once when it has begun to. Default: the kernel's events,
	// if Discover is the default, else nothing.
	Watch func(ctx context.Context, changed func()) error
	// WatchPaths tells when what Exists says of one of these paths may have
	// changed, like Watch. Default: inotify, if Exists is the default, else
	// nothing.
	WatchPaths func(ctx context.Context, paths []string, changed func()) error
	// PollInterval is how often Discover is asked whether or not Watch told
	// anything. Default 30 s, and 1 s while nothing watches.
	PollInterval time.Duration
	// Discover lists the ttys of this machine without opening any. Default:
	// what /sys shows.
	Discover func() ([]rule.Candidate, error)
	// Exists tells whether the path of a rule is a tty now. Default: it is a
	// character device.
	Exists func(path string) bool
	// Open opens a port. Default: the tty at the path.
	Open func(PortSpec) (Port, error)
	// Known tells the kind of a device that no rule matches. Default rule.KnownUSB.
	Known func(rule.Candidate) (kind string, ok bool)
	// OnDevices is told all devices of this node, sorted by name, at the
	// start of Run and after each change. Calls do not overlap. Default: nobody.
	OnDevices func([]registry.Device)
	// NameOf returns a member's name for texts that people read. Default: the
	// short NodeID.
	NameOf func(identity.NodeID) string
	// Hold is how long a session is kept without a stream where no rule says
	// otherwise. Default 15 s.
	Hold time.Duration
	// Window is how many bytes each direction of a session keeps. Default
	// session.DefaultWindow.
	Window int
	// Logger. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.NodeName == "" {
		c.NodeName = "node"
	}
	if c.Watch == nil {
		c.Watch = func(context.Context, func()) error { return errNoWatch }
		if log := c.Logger; c.Discover == nil {
			c.Watch = func(ctx context.Context, changed func()) error { return watchPorts(ctx, log, changed) }
		}
	}
	if c.Discover == nil {
		c.Discover = discoverPorts
	}
	if c.WatchPaths == nil {
		c.WatchPaths = func(context.Context, []string, func()) error { return errNoWatch }
		if c.Exists == nil {
			c.WatchPaths = watchPaths
		}
	}
	if c.Exists == nil {
		c.Exists = isCharDevice
	}
	if c.Open == nil {
		log := c.Logger
		c.Open = func(spec PortSpec) (Port, error) { return openPort(spec, log) }
	}
	if c.Known == nil {
		c.Known = rule.KnownUSB
	}
	if c.OnDevices == nil {
		c.OnDevices = func([]registry.Device) {}
	}
	if c.NameOf == nil {
		c.NameOf = identity.NodeID.Short
	}
	if c.Hold <= 0 {
		c.Hold = session.DefaultHold
	}
	if c.Window <= 0 {
		c.Window = session.DefaultWindow
	}
	return c
}

func isCharDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Publisher publishes this node's devices: it opens the ports that its rules
// choose, keeps them open, and lends them to consumers.
//
// Run finds devices and runs the goroutines of each; it joins them before it
// returns. Serve runs one session stream on its caller's goroutine. All methods
// are safe for concurrent use.
type Publisher struct {
	config Config
	log    *slog.Logger
	each   device.Config // of its devices
	dirty  chan struct{} // devices changed: tell OnDevices
	rescan chan struct{} // rules or hardware changed

	mu      sync.Mutex
	policy  rule.Policy
	found   *inventory.Inventory
	devices map[string]*device.Device // by name
}

// New returns a Publisher that does nothing until Run.
func New(config Config) *Publisher {
	config = config.withDefaults()
	p := &Publisher{
		config: config, log: config.Logger,
		policy: rule.Policy{Rules: config.Rules, Publish: config.Publish, Profiles: config.Profiles, Labels: config.Labels}.Clone(),
		dirty:  make(chan struct{}, 1), rescan: make(chan struct{}, 1),
		devices: map[string]*device.Device{},
		found:   inventory.New(inventory.Config{NodeName: config.NodeName, Exists: config.Exists, Known: config.Known, Hold: config.Hold, Logger: config.Logger}),
	}
	p.each = device.Config{
		Open: config.Open, NameOf: config.NameOf, Window: config.Window, Graves: new(device.Graves), Logger: config.Logger,
		Changed: func() { signal(p.dirty) },
		Lost:    func() { signal(p.rescan) },
	}
	return p
}

// Update replaces the policy. Devices that it does not choose any more are
// withdrawn and their sessions end. The others go on; only where the port has to
// be opened otherwise (line settings, DTR and RTS, RS-485) that is done, and the
// session is held meanwhile.
func (p *Publisher) Update(policy rule.Policy) {
	policy = policy.Clone()
	p.mu.Lock()
	p.policy = policy
	p.mu.Unlock()
	signal(p.rescan)
}

// How often the hardware is looked at.
const (
	pollWatched = 30 * time.Second // events may be lost
	pollBlind   = time.Second
)

// Run publishes until ctx is done, and returns nil then. Sessions end with
// session.CodeShuttingDown, and with session.CodeWithdrawn those on a device
// that is withdrawn earlier.
func (p *Publisher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hardware := &watching{rescan: p.rescan, broken: "hot-plug events are not heard, looking every second", log: p.log}
	running.Go(func() { hardware.run(ctx, p.config.Watch) })
	paths := &pathWatching{watch: p.config.WatchPaths, rescan: p.rescan, log: p.log}
	var told []registry.Device
	tell := func(first bool) {
		if now := p.view(); first || !reflect.DeepEqual(now, told) {
			told = now
			p.config.OnDevices(slices.Clone(now))
		}
	}
	discovered, eventful := "", false
	for first := true; ctx.Err() == nil; first = false {
		text := p.reconcile(ctx, &running, eventful)
		if text != discovered && text != "" {
			p.log.Warn("devices cannot be discovered", "err", text)
		}
		discovered = text
		tell(first)
		paths.follow(ctx, &running, p.rulePaths())
		eventful = p.untilDue(ctx, hardware, paths, func() { tell(false) })
	}
	return nil
}

// untilDue waits until it is time to reconcile, right after that was done, and
// reports whether that was told. It tells changes of the devices meanwhile.
func (p *Publisher) untilDue(ctx context.Context, hardware *watching, paths *pathWatching, tell func()) (eventful bool) {
	scanned := time.Now()
	looked := scanned
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		gap := p.interval(hardware.active())
		if !paths.active() {
			gap = min(gap, pollBlind)
		}
		poll.Reset(time.Until(looked.Add(gap)))
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
			looked = time.Now()
			if looked.Sub(scanned) >= p.interval(hardware.active()) || !paths.active() && p.pathsChanged() {
				return false
			}
		case <-p.rescan:
			return true
		case <-p.dirty:
			tell()
		}
	}
}

// interval is how long a look at the hardware holds.
func (p *Publisher) interval(watched bool) time.Duration {
	switch {
	case p.config.PollInterval > 0:
		return p.config.PollInterval
	case watched:
		return pollWatched
	}
	return pollBlind
}

// reconcile starts, changes and withdraws devices. eventful: something was
// told, so that ports which could not be opened are tried again at once. It
// returns why discovery failed; then everything stays as it is.
func (p *Publisher) reconcile(ctx context.Context, running *sync.WaitGroup, eventful bool) string {
	candidates, err := p.config.Discover()
	if err != nil {
		return err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := p.found.Wanted(p.policy, candidates)
	for name, d := range p.devices {
		if _, ok := wanted[name]; !ok {
			p.log.Info("device withdrawn", "device", name)
			d.Withdraw()
			delete(p.devices, name)
			signal(p.dirty)
		}
	}
	for name, w := range wanted {
		if d, ok := p.devices[name]; ok {
			d.Update(w, eventful)
			continue
		}
		p.log.Info("device published", "device", name, "path", w.Candidate.Path)
		deviceCtx, cancel := context.WithCancelCause(ctx)
		d := device.New(p.each, w, cancel)
		p.devices[name] = d
		running.Go(func() { d.Run(deviceCtx) })
	}
	return ""
}

func (p *Publisher) rulePaths() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return inventory.RulePaths(p.policy.Rules)
}

func (p *Publisher) pathsChanged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found.PathsChanged(p.policy.Rules)
}

// view returns all devices as the registry shall show them, sorted by name.
func (p *Publisher) view() []registry.Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	devices := make([]registry.Device, 0, len(p.devices))
	for _, name := range slices.Sorted(maps.Keys(p.devices)) {
		devices = append(devices, p.devices[name].View())
	}
	return devices
}

// Sessions returns the sessions on this node's devices, by device name.
func (p *Publisher) Sessions() []device.SessionStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []device.SessionStatus
	for _, name := range slices.Sorted(maps.Keys(p.devices)) {
		all = append(all, p.devices[name].Sessions()...)
	}
	return all
}

func (p *Publisher) device(name string) *device.Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.devices[name]
}

// signal wakes the one who waits for ch, once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
