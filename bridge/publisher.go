package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// PublisherConfig configures a Publisher.
type PublisherConfig struct {
	// NodeName is .Node in names. Default "node".
	NodeName string
	// Rules are tried in order; the first that matches counts.
	Rules []Rule
	// Publish says what is published. Default PublishKnown.
	Publish Publish
	// PollInterval is how often Discover is asked. Default 1 s.
	PollInterval time.Duration
	// Discover lists the ttys of this machine without opening any. Default:
	// what /sys shows.
	Discover func() ([]Candidate, error)
	// Exists tells whether the path of a rule is a tty now. Default: it is a
	// character device.
	Exists func(path string) bool
	// Open opens a port. Default: the tty at the path.
	Open func(PortSpec) (Port, error)
	// Known tells the kind of a device that no rule matches. Default KnownUSB.
	Known func(Candidate) (kind string, ok bool)
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

func (c PublisherConfig) withDefaults() PublisherConfig {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.NodeName == "" {
		c.NodeName = "node"
	}
	if c.PollInterval <= 0 {
		c.PollInterval = time.Second
	}
	if c.Discover == nil {
		c.Discover = discoverPorts
	}
	if c.Exists == nil {
		c.Exists = isCharDevice
	}
	if c.Open == nil {
		log := c.Logger
		c.Open = func(spec PortSpec) (Port, error) { return openPort(spec, log) }
	}
	if c.Known == nil {
		c.Known = KnownUSB
	}
	if c.OnDevices == nil {
		c.OnDevices = func([]registry.Device) {}
	}
	if c.NameOf == nil {
		c.NameOf = identity.NodeID.Short
	}
	if c.Hold <= 0 {
		c.Hold = DefaultHold
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
// choose, keeps them open, and lends each to one consumer at a time.
//
// Run finds devices and runs one goroutine per device, which reads its port;
// it joins them before it returns. Serve runs one session stream on its
// caller's goroutine. All methods are safe for concurrent use.
type Publisher struct {
	config PublisherConfig
	log    *slog.Logger
	dirty  chan struct{} // devices changed: tell OnDevices
	rescan chan struct{} // rules changed

	mu      sync.Mutex
	rules   []Rule
	seen    map[string]Candidate // by key, as last discovered
	names   map[string]given     // by key, for the life of the process
	twins   map[string]bool      // keys that two sticks had at once: one serial number
	devices map[string]*device   // by name
	graves  graves
}

// NewPublisher returns a Publisher that does nothing until Run.
func NewPublisher(config PublisherConfig) *Publisher {
	config = config.withDefaults()
	return &Publisher{
		config: config, log: config.Logger, rules: slices.Clone(config.Rules),
		dirty: make(chan struct{}, 1), rescan: make(chan struct{}, 1),
		seen: map[string]Candidate{}, names: map[string]given{}, twins: map[string]bool{}, devices: map[string]*device{},
	}
}

// Update replaces the rules. Devices that no rule chooses any more are
// withdrawn and their sessions end; the others go on.
func (p *Publisher) Update(rules []Rule) {
	p.mu.Lock()
	p.rules = slices.Clone(rules)
	p.mu.Unlock()
	signal(p.rescan)
}

// Run publishes until ctx is done, and returns nil then. Sessions end with
// session.CodeShuttingDown.
func (p *Publisher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	poll := time.NewTicker(p.config.PollInterval)
	defer poll.Stop()
	var told []registry.Device
	discovered := ""
	for first := true; ; first = false {
		text := p.reconcile(ctx, &running)
		if text != discovered && text != "" {
			p.log.Warn("devices cannot be discovered", "err", text)
		}
		discovered = text
		if now := p.view(); first || !reflect.DeepEqual(now, told) {
			told = now
			p.config.OnDevices(slices.Clone(now))
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-poll.C:
				waiting = false
			case <-p.rescan:
				waiting = false
			case <-p.dirty:
				if now := p.view(); !reflect.DeepEqual(now, told) {
					told = now
					p.config.OnDevices(slices.Clone(now))
				}
			}
		}
	}
}

// want is a device as it should run.
type want struct {
	name      string
	kind      string
	rule      Rule
	candidate Candidate
	present   bool
}

// reconcile starts, changes and withdraws devices. It returns why discovery
// failed; then everything stays as it is.
func (p *Publisher) reconcile(ctx context.Context, running *sync.WaitGroup) string {
	candidates, err := p.config.Discover()
	if err != nil {
		return err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := p.wanted(candidates)
	for name, d := range p.devices {
		if _, ok := wanted[name]; !ok {
			p.log.Info("device withdrawn", "device", name)
			d.cancel()
			delete(p.devices, name)
			signal(p.dirty)
		}
	}
	for name, w := range wanted {
		if d, ok := p.devices[name]; ok {
			d.update(w)
			continue
		}
		p.log.Info("device published", "device", name, "path", w.candidate.Path)
		deviceCtx, cancel := context.WithCancel(ctx)
		d := newDevice(p, w, cancel)
		p.devices[name] = d
		running.Go(func() { d.run(deviceCtx) })
	}
	return ""
}

// wanted applies the rules to what is there and to what was there. mu is held.
func (p *Publisher) wanted(candidates []Candidate) map[string]want {
	present := map[string]bool{}
	add := func(c Candidate) {
		k := p.keyOf(c)
		present[k] = true
		p.seen[k] = c
	}
	count := map[string]int{}
	for _, c := range candidates {
		k := key(c)
		if count[k]++; count[k] == 2 && !p.twins[k] {
			p.twins[k] = true
			delete(p.names, k) // the first by port takes the name again
			delete(p.seen, k)
		}
	}
	candidates = slices.Clone(candidates)
	slices.SortFunc(candidates, func(a, b Candidate) int {
		return strings.Compare(a.Hardware.Port+"\x00"+a.Path, b.Hardware.Port+"\x00"+b.Path)
	})
	for _, c := range candidates {
		add(c)
	}
	for _, r := range p.rules {
		listed := func(c Candidate) bool { return r.Match.matches(c) }
		if r.Match.onlyPath() && !slices.ContainsFunc(candidates, listed) && p.config.Exists(r.Match.Path) {
			add(Candidate{Path: r.Match.Path})
		}
	}
	wanted := map[string]want{}
	for _, k := range sortedKeys(p.seen) {
		c := p.seen[k]
		rule, kind, ok := p.choose(c)
		if !ok {
			continue
		}
		name, err := p.nameFor(k, rule, kind)
		if err != nil {
			p.log.Warn("device without a name is not published", "path", c.Path, "err", err)
			continue
		}
		wanted[name] = want{name: name, kind: kind, rule: rule, candidate: c, present: present[k]}
	}
	return wanted
}

// keyOf tells sticks of one serial number apart by their port, once two were
// seen. mu is held.
func (p *Publisher) keyOf(c Candidate) string {
	k := key(c)
	if p.twins[k] {
		k += ":port:" + c.Hardware.Port
	}
	return k
}

// choose tells whether and how c is published. mu is held.
func (p *Publisher) choose(c Candidate) (Rule, string, bool) {
	kind, known := p.config.Known(c)
	if !known {
		kind = "serial"
	}
	for _, r := range p.rules {
		if !r.Match.matches(c) || c.Skip != "" && r.Match.Path == "" {
			continue
		}
		if r.Kind != "" {
			kind = r.Kind
		}
		if r.Hold <= 0 {
			r.Hold = p.config.Hold
		}
		return r, kind, true
	}
	ok := c.Skip == "" && (p.config.Publish == PublishAll || p.config.Publish == PublishKnown && known)
	return Rule{Hold: p.config.Hold}, kind, ok
}

// nameFor returns the name of the hardware with this key. Once given it stays,
// unless the rule now says another: a second stick of the same rule gets "-2".
// mu is held.
func (p *Publisher) nameFor(k string, rule Rule, kind string) (string, error) {
	base, err := rule.expand(p.config.NodeName, kind)
	if err != nil {
		return "", err
	}
	base = tidyName(base)
	had := p.names[k]
	if had.base == base {
		return had.name, nil
	}
	taken := map[string]bool{}
	for other, g := range p.names {
		if other != k {
			taken[g.name] = true
		}
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	p.names[k] = given{base, name}
	return name, nil
}

// given is a name and what the rule said.
type given struct{ base, name string }

// tidyName replaces what the registry does not take in a name.
func tidyName(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			return c
		}
		return '-'
	}, name)
}

// view returns all devices as the registry shall show them, sorted by name.
func (p *Publisher) view() []registry.Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	devices := make([]registry.Device, 0, len(p.devices))
	for _, name := range sortedKeys(p.devices) {
		devices = append(devices, p.devices[name].view())
	}
	return devices
}

// Sessions returns the sessions on this node's devices, by device name.
func (p *Publisher) Sessions() []SessionStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []SessionStatus
	for _, name := range sortedKeys(p.devices) {
		if s, ok := p.devices[name].session(); ok {
			all = append(all, s)
		}
	}
	return all
}

func (p *Publisher) device(name string) *device {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.devices[name]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// signal wakes the one who waits for ch, once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
