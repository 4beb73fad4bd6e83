package bridge_test

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

	"github.com/serialspan/serialspan/bridge"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// world is one owner with its devices and any number of consumers, over
// in-memory streams that can be cut, in one synctest bubble.
type world struct {
	t         *testing.T
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup
	publisher *bridge.Publisher
	changes   chan struct{} // one watcher at a time
	ownerCtx  context.Context
	ownerStop context.CancelFunc
	owner     sync.WaitGroup

	mu      sync.Mutex
	ports   map[string]*memPort // by path
	present []rule.Candidate
	streams []*memStream
	down    bool // dials fail
	fragile bool // streams break after some bytes
	stuck   bool // dials succeed and nothing is ever answered
	devices []registry.Device
	opens   int
	broken  error // of the next opens of ports
	logged  bytes.Buffer
}

var owner = identity.NodeID{0xee}

// node is a consumer.
type node struct {
	id       identity.NodeID
	attacher *bridge.Attacher
}

func newWorld(t *testing.T, config bridge.PublisherConfig, candidates ...rule.Candidate) *world {
	w := &world{t: t, ports: map[string]*memPort{}, present: candidates, changes: make(chan struct{}, 1)}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.startOwner(config)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + w.logs())
		}
	})
	return w
}

func (w *world) startOwner(config bridge.PublisherConfig) {
	config.NodeName = "garage"
	config.Discover = func() ([]rule.Candidate, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.present, nil
	}
	config.Exists = func(string) bool { return false }
	config.Open = w.open
	config.OnDevices = func(d []registry.Device) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.devices = d
	}
	config.Logger = w.logger("owner")
	publisher := bridge.NewPublisher(config)
	w.ownerCtx, w.ownerStop = context.WithCancel(w.ctx)
	w.publisher = publisher
	w.owner.Go(func() {
		if err := publisher.Run(w.ownerCtx); err != nil {
			w.t.Error(err)
		}
	})
}

// close ends everything; the bubble would complain about what is left.
func (w *world) close() {
	w.stop()
	w.owner.Wait()
	w.running.Wait()
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.logged.Write(p)
}

func (w *world) logs() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.String()
}

func (w *world) logger(who string) *slog.Logger {
	h := slog.NewTextHandler(lockedWriter{w}, &slog.HandlerOptions{Level: slog.LevelDebug})
	return slog.New(h).With("who", who)
}

func (w *world) open(spec bridge.PortSpec) (bridge.Port, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	if w.broken != nil {
		return nil, w.broken
	}
	for _, c := range w.present {
		if c.Path == spec.Path {
			p := newMemPort()
			p.opened(spec)
			w.ports[spec.Path] = p
			return p, nil
		}
	}
	return nil, errors.New("no such device or address")
}

func (w *world) port(path string) *memPort {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ports[path]
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// consumer starts a node that resolves every name to the owner.
func (w *world) consumer(n byte, hold time.Duration) *node {
	id := identity.NodeID{n}
	a := bridge.NewAttacher(bridge.AttacherConfig{
		Resolve: func(query string) (use.Target, error) {
			if query == "nowhere" {
				return use.Target{}, registry.ErrNotFound
			}
			return use.Target{Owner: owner, Device: query}, nil
		},
		Watch:  func() (<-chan struct{}, func()) { return w.changes, func() {} },
		Dial:   func(ctx context.Context, _ identity.NodeID) (net.Conn, error) { return w.dial(ctx, id) },
		Hold:   hold,
		Logger: w.logger(fmt.Sprint("consumer ", n)),
	})
	w.running.Go(func() {
		if err := a.Run(w.ctx); err != nil {
			w.t.Error(err)
		}
	})
	synctest.Wait()
	return &node{id, a}
}

func (w *world) dial(_ context.Context, from identity.NodeID) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errCut
	}
	a, b := newStreamPair(65536)
	if w.fragile {
		a.in.left, a.out.left = 200+rand.IntN(40000), 200+rand.IntN(40000)
	}
	w.streams = append(w.streams, a)
	if !w.stuck {
		publisher, ctx := w.publisher, w.ownerCtx
		w.owner.Go(func() { _ = publisher.Serve(ctx, b, from) })
	}
	return a, nil
}

// changed is what the registry and the members signal when a path is back.
func (w *world) changed() {
	select {
	case w.changes <- struct{}{}:
	default:
	}
}

// freeze makes all streams carry nothing more, without breaking them.
func (w *world) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		s.in.freeze()
		s.out.freeze()
	}
}

// restartOwner kills the Publisher and starts another, as a new process does.
func (w *world) restartOwner(config bridge.PublisherConfig) {
	w.ownerStop()
	w.owner.Wait()
	w.startOwner(config)
	synctest.Wait()
}

// cut breaks all streams.
func (w *world) cut() {
	w.mu.Lock()
	streams := w.streams
	w.streams = nil
	w.mu.Unlock()
	for _, s := range streams {
		s.cut()
	}
}

func (w *world) device(name string) registry.Device {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.devices {
		if d.Name == name {
			return d
		}
	}
	w.t.Fatalf("device %q is not published; there are %v", name, w.devices)
	return registry.Device{}
}

func (w *world) openRaw(n *node, device string, take use.Take) io.ReadWriteCloser {
	w.t.Helper()
	synctest.Wait()
	r, err := n.attacher.OpenRaw(context.Background(), device, take)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

var zwave = rule.Candidate{Path: "/dev/ttyACM0", Hardware: registry.Hardware{VID: "0658", PID: "0200", Port: "1-1"}}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

// readExactly reads n bytes, in pieces as they come.
func readExactly(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
