package agent_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/agent"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/meshtest"
	"github.com/serialspan/serialspan/registry"
)

// stick is a USB stick in memory that can be plugged into nodes. It sends a
// numbered word every 2 ms, and keeps the words that it gets.
type stick struct {
	mu      sync.Mutex
	changed *sync.Cond
	at      string // the node; empty: nowhere
	plugs   int
	told    map[string]func() // who watches for it, by node
	port    *stickPort        // that has it open; nil: none
	next    uint32            // word to be sent
	got     []uint32
	partial []byte
}

func newStick() *stick {
	s := &stick{told: map[string]func(){}}
	s.changed = sync.NewCond(&s.mu)
	return s
}

var stickUSB = registry.Hardware{VID: "0403", PID: "6001", Serial: "A1", Port: "1-1"}

// plug puts the stick into a node, or nowhere; the node's kernel tells it.
func (s *stick) plug(node string) {
	s.mu.Lock()
	before := s.at
	s.at = node
	s.plugs++
	if s.port != nil {
		s.port.gone = true
		s.port = nil
	}
	s.changed.Broadcast()
	for _, n := range []string{before, node} {
		if told := s.told[n]; told != nil {
			defer told()
		}
	}
	s.mu.Unlock()
}

// run sends words, to nobody if nobody has the port open.
func (s *stick) run(ctx context.Context) {
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
		s.mu.Lock()
		if s.at != "" {
			if s.port != nil {
				s.port.buf = binary.BigEndian.AppendUint32(s.port.buf, s.next)
				s.changed.Broadcast()
			}
			s.next++
		}
		s.mu.Unlock()
	}
}

// node makes a node that has the stick when it is plugged in there.
func (s *stick) node(name string, join []string) *node {
	return &node{
		name: name, join: join,
		change: func(c *configs.Config) {
			c.Devices.Rules = []configs.Rule{{Match: configs.Match{Serial: stickUSB.Serial}, Name: "stick", Line: "57600e71"}}
		},
		discover: func() ([]rule.Candidate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.at != name {
				return nil, nil
			}
			return []rule.Candidate{{Path: stickPath, Hardware: stickUSB}}, nil
		},
		watch: func(ctx context.Context, changed func()) error {
			s.mu.Lock()
			s.told[name] = changed
			s.mu.Unlock()
			changed()
			<-ctx.Done()
			return nil
		},
		open: func(spec publish.PortSpec) (publish.Port, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.at != name {
				return nil, fs.ErrNotExist
			}
			s.partial = nil
			s.port = &stickPort{stick: s, line: spec.Line}
			return s.port, nil
		},
	}
}

// stickPort is the stick as a node has it open.
type stickPort struct {
	stick  *stick
	line   line.Settings
	buf    []byte
	gone   bool
	closed bool
}

var errUnplugged = errors.New("input/output error")

func (p *stickPort) Read(b []byte) (int, error) {
	s := p.stick
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p.buf) == 0 && !p.gone && !p.closed {
		s.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, os.ErrClosed
	case len(p.buf) == 0:
		return 0, errUnplugged
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

func (p *stickPort) TryWrite(b []byte) (int, error) {
	s := p.stick
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.gone || p.closed {
		return 0, errUnplugged
	}
	for s.partial = append(s.partial, b...); len(s.partial) >= 4; s.partial = s.partial[4:] {
		s.got = append(s.got, binary.BigEndian.Uint32(s.partial))
	}
	return len(b), nil
}

func (p *stickPort) Write(b []byte) (int, error)      { return p.TryWrite(b) }
func (p *stickPort) SetWriteDeadline(time.Time) error { return nil }
func (p *stickPort) Drain(context.Context) error      { return nil }
func (p *stickPort) PurgeOutput() error               { return nil }

func (p *stickPort) SetLine(l line.Settings) error {
	p.stick.mu.Lock()
	defer p.stick.mu.Unlock()
	p.line = l
	return nil
}

func (p *stickPort) Line() line.Settings {
	p.stick.mu.Lock()
	defer p.stick.mu.Unlock()
	return p.line
}

func (p *stickPort) PurgeInput() error {
	p.stick.mu.Lock()
	defer p.stick.mu.Unlock()
	p.buf = nil
	return nil
}

func (p *stickPort) Close() error {
	p.stick.mu.Lock()
	defer p.stick.mu.Unlock()
	p.closed = true
	p.stick.changed.Broadcast()
	return nil
}

// holes returns where words are missing, as first and last of those that are; ok
// is false where one came twice or out of order.
func holes(words []uint32) (missing [][2]uint32, ok bool) {
	for i := 1; i < len(words); i++ {
		switch before, now := words[i-1], words[i]; {
		case now <= before:
			return missing, false
		case now > before+1:
			missing = append(missing, [2]uint32{before + 1, now - 1})
		}
	}
	return missing, true
}

// TestStickMoves pulls a stick out of one node and plugs it into another while
// words go both ways. The application sees one gap: what the stick sent before is
// delivered, nothing comes twice, and what is missing is counted. It says how long
// it takes from the plug to the first word.
func TestStickMoves(t *testing.T) {
	var data []time.Duration
	for i := range 5 {
		synctest.Test(t, func(t *testing.T) { data = append(data, stickMoves(t, i)) })
	}
	slices.Sort(data)
	t.Logf("from the plug to data: median %v, most %v", data[len(data)/2], data[len(data)-1])
	if most := data[len(data)-1]; most > time.Second {
		t.Errorf("data came after %v", most)
	}
}

func stickMoves(t *testing.T, round int) time.Duration {
	h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond})
	s := newStick()
	s.at = "attic"
	attic := h.start(s.node("attic", nil))
	through := []string{attic.addr.String()}
	cellar := h.start(s.node("cellar", through))
	consumer := h.start(&node{name: "consumer", join: through})
	h.net.WaitFor(5*time.Second, "the stick at the consumer", consumer.resolves("stick"))
	h.net.WaitFor(5*time.Second, "all to know each other", func() bool { return cellar.Status().Members == 3 && consumer.Status().Members == 3 })
	stream, err := consumer.Console(context.Background(), "stick", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	running.Go(func() { // the application writes
		for n := uint32(0); ; n++ {
			if _, err := stream.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
				return
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	var mu sync.Mutex
	var have []uint32
	var when []time.Time
	running.Go(func() { // and reads
		var partial []byte
		for buf := make([]byte, 4096); ; {
			n, err := stream.Read(buf)
			partial = append(partial, buf[:n]...)
			mu.Lock()
			for ; len(partial) >= 4; partial = partial[4:] {
				have, when = append(have, binary.BigEndian.Uint32(partial)), append(when, time.Now())
			}
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	time.Sleep(time.Second)
	s.mu.Lock()
	sent := s.next // before it is pulled
	s.mu.Unlock()
	s.plug("")
	time.Sleep(time.Duration(100+round*600) * time.Millisecond)
	plugged := time.Now()
	s.plug("cellar")
	time.Sleep(2 * time.Second)

	seen := agent.StatusOf(stream)
	cancel()
	_ = stream.Close()
	running.Wait()
	if seen.Owner != cellar.Status().ID || seen.Line.String() != "57600e71" {
		t.Errorf("the session is with %v, at %v", seen.Owner, seen.Line)
	}
	from, inOrder := holes(have)
	if len(from) != 1 || !inOrder || from[0][0] != sent {
		t.Errorf("from the stick are missing %v, in order %v; the first that may be is %d", from, inOrder, sent)
	}
	s.mu.Lock() // the last words may still be on their way
	got := slices.Clone(s.got)
	s.mu.Unlock()
	to, inOrder := holes(got)
	if len(to) != 1 || !inOrder || got[0] != 0 {
		t.Fatalf("to the stick are missing %v, in order %v", to, inOrder)
	}
	// Both directions have their gap; up to Lost bytes to the stick are missing.
	missing := 4 * uint64(to[0][1]-to[0][0]+1)
	if seen.Gaps < 2 || seen.Lost < missing || seen.Lost > missing+256 {
		t.Errorf("%d bytes to the stick are missing; the status says %d gaps of %d bytes", missing, seen.Gaps, seen.Lost)
	}
	if all := attic.Devices(); slices.ContainsFunc(all, func(d client.Device) bool { return d.Node == "attic" }) {
		t.Errorf("the old owner still has it: %+v", all)
	}
	first := slices.IndexFunc(have, func(n uint32) bool { return n >= sent })
	if first < 0 {
		t.Fatal("no data after the move")
	}
	return when[first].Sub(plugged)
}
