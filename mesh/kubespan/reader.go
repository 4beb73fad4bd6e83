package kubespan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultLinkName = "kubespan"
	defaultInterval = 5 * time.Second
	// settle is how long the reader waits after a notification for the others
	// that come with it: a link that appears sends half a dozen.
	settle = 20 * time.Millisecond
)

// Config sets up a Reader. The zero value is the default.
type Config struct {
	// LinkName is the name of KubeSpan's link. Default "kubespan".
	LinkName string

	// Interval is the time between two looks at the peers. Default 5 s.
	Interval time.Duration

	// Logger gets an info event when KubeSpan appears, changes or vanishes and
	// debug events else; default discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.LinkName = cmp.Or(c.LinkName, defaultLinkName)
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// anywhere is an address in no network (RFC 5737).
var anywhere = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// source is where a Reader reads from: the kernel, or a test.
type source interface {
	link(name string) (link, bool, error)
	addresses(index int) ([]netip.Prefix, error)
	rule() (bool, error)
	route(to netip.Addr, mark uint32) (index int, err error)
	tunnel(to netip.Addr) (name string, err error)
	peers(name string) ([]sample, error)

	// watch sends to changed, which never blocks it, when the link of this name
	// may have changed, until close. follow tells it the link's index.
	watch(name string, changed chan<- struct{}) error
	follow(index int)
	// close ends watch's goroutine and waits for it.
	close()
}

// Reader follows KubeSpan. It is safe for concurrent use; Run may be called
// once.
type Reader struct {
	cfg     Config
	kind    string // of KubeSpan's link
	source  source
	judge   judge // Run's, as is index
	index   int   // of the link that judge knows the peers of
	state   atomic.Pointer[State]
	changes chan struct{}
}

// New returns a Reader that reads nothing before Run.
func New(cfg Config) *Reader {
	r := &Reader{cfg: cfg.withDefaults(), kind: wireGuardKind, source: &kernel{}, changes: make(chan struct{}, 1)}
	r.state.Store(&State{Why: "not looked yet"})
	return r
}

// State returns what was last read.
func (r *Reader) State() State { return *r.state.Load() }

// Changes returns a channel that holds a value after State has changed in more
// than counters, however often. It is for one receiver and is never closed.
func (r *Reader) Changes() <-chan struct{} { return r.changes }

// Run reads until ctx ends and then returns nil. It opens its sockets on the
// calling goroutine's thread, so in that thread's network namespace. Whatever
// the kernel refuses is in State.Why and tried again; Run does not fail.
func (r *Reader) Run(ctx context.Context) error {
	defer r.source.close()
	start := time.Now()
	changed := make(chan struct{}, 1)
	if err := r.source.watch(r.cfg.LinkName, changed); err != nil {
		r.cfg.Logger.Warn("kubespan is polled only, the kernel does not tell of changes", "err", err)
	}
	ticker := time.NewTicker(r.cfg.Interval)
	defer ticker.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for waiting := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if !waiting {
				waiting = true
				pause.Reset(settle)
			}
			continue
		case <-ticker.C:
		case <-pause.C:
			waiting = false
		}
		r.publish(r.look(time.Since(start)))
	}
}

// look reads everything. What cannot be read for a reason that has nothing to
// do with KubeSpan stays as it was.
func (r *Reader) look(now time.Duration) State {
	stale := r.State()
	l, found, err := r.source.link(r.cfg.LinkName)
	if err != nil {
		stale.Why = fmt.Sprintf("read link %s: %v", r.cfg.LinkName, err)
		return stale
	}
	if l.index != r.index {
		r.judge, r.index = judge{}, l.index
	}
	r.source.follow(l.index) // before its addresses are read: no change of them is missed
	if !found {
		return State{Why: "no link named " + r.cfg.LinkName}
	}
	addrs, err := r.source.addresses(l.index)
	if err != nil {
		stale.Why = fmt.Sprintf("read addresses of link %s: %v", r.cfg.LinkName, err)
		return stale
	}
	s := detect(l, r.kind, addrs)
	if !s.Present {
		return s
	}
	if s.Rule, err = r.source.rule(); err != nil {
		r.cfg.Logger.Debug("routing rules not read", "err", err)
	}
	if index, err := r.source.route(anywhere, forceMark); err == nil {
		s.Forced = index == l.index
	}
	samples, err := r.source.peers(r.cfg.LinkName)
	if err != nil {
		s.Why = whyNoPeers(r.cfg.LinkName, err)
		if !errors.Is(err, os.ErrPermission) && s.Link == stale.Link && s.Address == stale.Address {
			s.Privileged, s.Peers = stale.Privileged, stale.Peers
		}
		return s
	}
	s.Privileged = true
	for i, alive := range r.judge.look(now, samples) {
		p := peerOf(samples[i], alive, s.Prefix)
		if p.Endpoint.IsValid() {
			p.Tunnel, _ = r.source.tunnel(p.Endpoint.Addr()) // what cannot be asked is not known
		}
		s.Peers = append(s.Peers, p)
	}
	slices.SortFunc(s.Peers, func(a, b Peer) int {
		return cmp.Or(a.Address.Compare(b.Address), slices.Compare(a.PublicKey[:], b.PublicKey[:]))
	})
	return s
}

func whyNoPeers(name string, err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "peers of " + name + " not read: that needs the capability NET_ADMIN in the host's user namespace"
	}
	return fmt.Sprintf("read peers of %s: %v", name, err)
}

// publish makes s the state.
func (r *Reader) publish(s State) {
	old := r.state.Swap(&s)
	if s.sameBut(*old) {
		return
	}
	switch {
	case s.Present && (!old.Present || s.Address != old.Address || s.MTU != old.MTU):
		r.cfg.Logger.Info("kubespan found", "address", s.Address, "mtu", s.MTU, "peers", len(s.Peers), "reason", s.Why)
	case !s.Present && old.Present:
		r.cfg.Logger.Info("kubespan gone", "reason", s.Why)
	default:
		r.cfg.Logger.Debug("kubespan changed", "present", s.Present, "peers", len(s.Peers), "reason", s.Why)
	}
	select {
	case r.changes <- struct{}{}:
	default:
	}
}

// kernel is the source of every Reader outside tests.
type kernel struct {
	rtnetlink
	wireGuard
	told *notifications
	wait sync.WaitGroup
}

func (k *kernel) watch(name string, changed chan<- struct{}) error {
	told, err := newNotifications(name)
	if err != nil {
		return err
	}
	k.told = told
	k.wait.Go(func() {
		buffer := make([]byte, receiveLen)
		for {
			ours, err := told.next(buffer)
			if err != nil {
				return // closed, or broken: the ticker goes on
			}
			if ours {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	})
	return nil
}

func (k *kernel) follow(index int) {
	if k.told != nil {
		k.told.index.Store(int64(index))
	}
}

func (k *kernel) close() {
	if k.told != nil {
		k.told.close()
	}
	k.wait.Wait()
	k.rtnetlink.close()
	k.wireGuard.close()
}
