// Package bridgetest has an owner with its devices and any number of consumers in
// memory, for the tests of the bridge's packages: a World in a synctest bubble, whose
// streams can be cut, frozen and lost, Ports that a test unplugs, and Peers made of
// the wire format alone, which show every frame.
//
// A World joins its goroutines in Close.
package bridgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/internal/device"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// World is one owner with its devices and any number of consumers, over
// in-memory streams that can be cut, in one synctest bubble.
type World struct {
	T         *testing.T
	Ctx       context.Context
	stop      context.CancelFunc
	Running   sync.WaitGroup
	Publisher *publish.Publisher
	changes   chan struct{} // one watcher at a time
	OwnerCtx  context.Context
	ownerStop context.CancelFunc
	owner     sync.WaitGroup

	mu      sync.Mutex
	Ports   map[string]*Port // by path
	Present []rule.Candidate
	Streams []*Stream
	Down    bool // dials fail
	Fragile bool // streams break after some bytes
	Stuck   bool // dials succeed and nothing is ever answered
	devices []registry.Device
	Opens   int
	Broken  error // of the next opens of ports
	logged  bytes.Buffer
}

// Owner is the node that has the devices.
var Owner = identity.NodeID{0xee}

// Node is a consumer.
type Node struct {
	ID       identity.NodeID
	Attacher *attach.Attacher
}

// NewWorld starts an owner with these devices. It sets itself what is the world's in
// config: Discover, Open, OnDevices and the like.
func NewWorld(t *testing.T, config publish.Config, candidates ...rule.Candidate) *World {
	w := &World{T: t, Ports: map[string]*Port{}, Present: candidates, changes: make(chan struct{}, 1)}
	w.Ctx, w.stop = context.WithCancel(context.Background())
	w.startOwner(config)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + w.Logs())
		}
	})
	return w
}

func (w *World) startOwner(config publish.Config) {
	config.NodeName = "garage"
	config.Discover = func() ([]rule.Candidate, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.Present, nil
	}
	if config.Exists == nil {
		config.Exists = func(string) bool { return false }
	}
	config.Open = w.open
	config.OnDevices = func(d []registry.Device) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.devices = d
	}
	config.Logger = w.logger("owner")
	publisher := publish.New(config)
	w.OwnerCtx, w.ownerStop = context.WithCancel(w.Ctx)
	w.Publisher = publisher
	w.owner.Go(func() {
		if err := publisher.Run(w.OwnerCtx); err != nil {
			w.T.Error(err)
		}
	})
}

// Close ends everything; the bubble would complain about what is left.
func (w *World) Close() {
	w.stop()
	w.owner.Wait()
	w.Running.Wait()
}

type lockedWriter struct{ w *World }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.logged.Write(p)
}

// Logs returns what all nodes have logged.
func (w *World) Logs() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.String()
}

func (w *World) logger(who string) *slog.Logger {
	h := slog.NewTextHandler(lockedWriter{w}, &slog.HandlerOptions{Level: slog.LevelDebug})
	return slog.New(h).With("node", who)
}

func (w *World) open(spec publish.PortSpec) (publish.Port, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Opens++
	if w.Broken != nil {
		return nil, w.Broken
	}
	for _, c := range w.Present {
		if c.Path == spec.Path {
			p := NewPort()
			p.Opened(spec)
			w.Ports[spec.Path] = p
			return p, nil
		}
	}
	return nil, errors.New("no such device or address")
}

// Port returns the port that was opened last at the path; nil: none was.
func (w *World) Port(path string) *Port {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Ports[path]
}

// Set calls f with the world locked, to change its fields.
func (w *World) Set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Consumer starts a node that resolves every name to the owner.
func (w *World) Consumer(n byte, hold time.Duration) *Node {
	id := identity.NodeID{n}
	a := attach.New(attach.Config{
		Resolve: func(query string) (use.Target, error) {
			if query == "nowhere" {
				return use.Target{}, registry.ErrNotFound
			}
			return use.Target{Owner: Owner, Device: query}, nil
		},
		Watch:  func() (<-chan struct{}, func()) { return w.changes, func() {} },
		Dial:   func(ctx context.Context, _ identity.NodeID) (net.Conn, error) { return w.dial(ctx, id) },
		Hold:   hold,
		Logger: w.logger(fmt.Sprint("consumer ", n)),
	})
	w.Running.Go(func() {
		if err := a.Run(w.Ctx); err != nil {
			w.T.Error(err)
		}
	})
	synctest.Wait()
	return &Node{id, a}
}

func (w *World) dial(_ context.Context, from identity.NodeID) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Down {
		return nil, ErrCut
	}
	a, b := NewStreams(65536)
	if w.Fragile {
		a.In.left, a.Out.left = 200+rand.IntN(40000), 200+rand.IntN(40000)
	}
	w.Streams = append(w.Streams, a)
	if !w.Stuck {
		publisher, ctx := w.Publisher, w.OwnerCtx
		w.owner.Go(func() { _ = publisher.Serve(ctx, b, from) })
	}
	return a, nil
}

// Changed is what the registry and the members signal when a path is back.
func (w *World) Changed() {
	select {
	case w.changes <- struct{}{}:
	default:
	}
}

// Freeze makes all streams carry nothing more, without breaking them.
func (w *World) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.Streams {
		s.In.Freeze()
		s.Out.Freeze()
	}
}

// RestartOwner kills the Publisher and starts another, as a new process does.
func (w *World) RestartOwner(config publish.Config) {
	w.ownerStop()
	w.owner.Wait()
	w.startOwner(config)
	synctest.Wait()
}

// Cut breaks all streams.
func (w *World) Cut() {
	w.mu.Lock()
	streams := w.Streams
	w.Streams = nil
	w.mu.Unlock()
	for _, s := range streams {
		s.Cut()
	}
}

// Device returns what the owner says of a device; the test fails if there is none.
func (w *World) Device(name string) registry.Device {
	w.T.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.devices {
		if d.Name == name {
			return d
		}
	}
	w.T.Fatalf("device %q is not published; there are %v", name, w.devices)
	return registry.Device{}
}

// OpenRaw opens a device as a stream of bytes; the test fails if that fails.
func (w *World) OpenRaw(n *Node, device string, take use.Take) io.ReadWriteCloser {
	w.T.Helper()
	synctest.Wait()
	r, err := n.Attacher.OpenRaw(context.Background(), device, take)
	if err != nil {
		w.T.Fatal(err)
	}
	return r
}

// Zwave is a stick that is known without a rule; it is published as garage-zwave.
var Zwave = rule.Candidate{Path: "/dev/ttyACM0", Hardware: registry.Hardware{VID: "0658", PID: "0200", Port: "1-1"}}

// Noise returns n bytes that look random and are the same for the same seed.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

// ReadExactly reads n bytes, in pieces as they come.
func ReadExactly(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// ReadFunc is an io.Reader.
type ReadFunc func([]byte) (int, error)

// Read calls f.
func (f ReadFunc) Read(p []byte) (int, error) { return f(p) }

// ErrUnplugged is what a tty says whose device is gone.
var ErrUnplugged = errors.New("input/output error")

// Unplug takes all hardware away.
func (w *World) Unplug() {
	w.mu.Lock()
	w.Present = nil
	ports := w.Ports
	w.Ports = map[string]*Port{}
	w.mu.Unlock()
	for _, p := range ports {
		p.Unplug(ErrUnplugged)
	}
}

// Plug makes the hardware be there.
func (w *World) Plug(c ...rule.Candidate) { w.Set(func() { w.Present = c }) }

// Only returns the one session there is.
func (w *World) Only() device.SessionStatus {
	w.T.Helper()
	synctest.Wait()
	all := w.Publisher.Sessions()
	if len(all) != 1 {
		w.T.Fatalf("sessions %+v", all)
	}
	return all[0]
}

// Published lists what the registry was told, as "name kind path-or-port state".
func (w *World) Published() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, d := range w.devices {
		all = append(all, fmt.Sprintf("%s %s %s%s %v", d.Name, d.Kind, d.Hardware.Path, d.Hardware.Port, d.State))
	}
	return all
}

// USB returns a USB tty as discovery finds it.
func USB(path, vid, pid, serial, port string) rule.Candidate {
	return rule.Candidate{Path: path, Hardware: registry.Hardware{VID: vid, PID: pid, Serial: serial, Port: port}}
}

// Refusing is a configuration whose devices refuse a second consumer.
func Refusing() publish.Config {
	return publish.Config{Rules: []rule.Rule{{
		Match: rule.Match{VID: "0658"}, Busy: rule.BusyRefuse,
	}}}
}
