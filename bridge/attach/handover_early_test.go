package attach_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/internal/handover"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/rule"
	"github.com/serialspan/serialspan/bridge/use"
	"github.com/serialspan/serialspan/registry"
)

// stampedPort is a device that takes all at once and notes at which settings.
type stampedPort struct {
	*bridgetest.Port
	mu  sync.Mutex
	got []stamped
}

type stamped struct {
	line  string
	bytes []byte
}

func (p *stampedPort) Write(b []byte) (int, error) { return p.TryWrite(b) }

func (p *stampedPort) TryWrite(b []byte) (int, error) {
	at := p.Line().String()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.got); n == 0 || p.got[n-1].line != at {
		p.got = append(p.got, stamped{line: at})
	}
	last := &p.got[len(p.got)-1]
	last.bytes = append(last.bytes, b...)
	return len(b), nil
}

// all returns what came so far.
func (p *stampedPort) all() []stamped {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// newRebornAt is newReborn with a device of a rule, out of reach at first.
func newRebornAt(t *testing.T, one rule.Rule) (*reborn, *stampedPort) {
	r, port := newReborn(t), &stampedPort{Port: bridgetest.NewPort()}
	r.reach(false)
	one.Match, one.Name = rule.Match{VID: bridgetest.Pinned.Hardware.VID}, "lab"
	p := publish.New(publish.Config{
		Rules:    []rule.Rule{one},
		Discover: func() ([]rule.Candidate, error) { return []rule.Candidate{bridgetest.Pinned}, nil },
		Open: func(spec publish.PortSpec) (publish.Port, error) {
			port.Opened(spec)
			return port, nil
		},
		OnDevices: func(all []registry.Device) {
			for _, d := range all {
				r.states <- d.State
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	t.Cleanup(func() {
		r.end()
		cancel()
		running.Wait()
	})
	r.await(registry.StateAvailable)
	r.bench.publisher = p
	return r, port
}

// isRead waits until the agent has read what applications wrote: a kernel does
// not tell what was written before a change of the settings, and what after, if
// both wait.
func (r *reborn) isRead() {
	r.t.Helper()
	raw, err := r.files.master().SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		master, waiting := []unix.PollFd{{Events: unix.POLLIN}}, 0
		closed := raw.Control(func(fd uintptr) {
			master[0].Fd = int32(fd)
			waiting, err = unix.Poll(master, 0)
		})
		if err = errors.Join(closed, err); err == nil && waiting == 0 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			r.t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatal("the agent does not read")
		}
	}
}

// setBaud waits until the agent has seen the change: what is written until then
// counts as written before.
func (r *reborn) setBaud(app *os.File, baud uint32) {
	r.t.Helper()
	setBaud(r.t, app, baud)
	r.eventually("the agent has seen the rate", func() bool {
		record, err := handover.Read(r.files.memory())
		set, _ := line.Parse(record.Wanted)
		return err == nil && set.Baud == baud
	})
}

// What an application wrote and set before there ever was a session is done in
// that order, whichever process it was that gathered it: what came before a
// change of the rate at the rate before, and all with the device's framing,
// which a terminal cannot express.
func TestRestartBeforeSession(t *testing.T) {
	for _, closes := range []bool{false, true} {
		name := "open"
		if closes {
			name = "closed"
		}
		t.Run(name, func(t *testing.T) {
			framed, err := line.Parse("9600e71")
			if err != nil {
				t.Fatal(err)
			}
			r, port := newRebornAt(t, rule.Rule{Line: framed})
			app := r.open()
			if err := app.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			blocks := [][]byte{[]byte("before any change"), bytes.Repeat([]byte{1}, 30000), bytes.Repeat([]byte{2}, 30000)}
			mustWrite(t, app, blocks[0])
			r.isRead()
			r.setBaud(app, 1200)
			mustWrite(t, app, blocks[1])
			r.isRead()
			r.restart()
			r.setBaud(app, 2400)
			mustWrite(t, app, blocks[2])
			r.restart()
			mustWrite(t, app, []byte("last"))
			if closes {
				_ = app.Close()
			}
			r.restart()
			r.reach(true)
			want := []stamped{{"9600e71", blocks[0]}, {"1200e71", blocks[1]}, {"2400e71", append(blocks[2], "last"...)}}
			r.eventually("all is written, each at its rate", func() bool {
				return slices.EqualFunc(port.all(), want, func(a, b stamped) bool { return a.line == b.line && bytes.Equal(a.bytes, b.bytes) })
			})
			if t.Failed() {
				for _, s := range port.all() {
					t.Logf("%d bytes at %s", len(s.bytes), s.line)
				}
			}
			if s := r.status(); s.Gaps != 0 || s.Lost != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// An application that writes single bytes leaves many pieces.
func TestRestartBeforeSessionWithSingleBytes(t *testing.T) {
	r, port := newRebornAt(t, rule.Rule{})
	app := r.open()
	data := everyByte(4, 6000)
	for i := range data {
		mustWrite(t, app, data[i:i+1])
		r.isRead()
	}
	r.restart()
	r.reach(true)
	r.eventually("all is written", func() bool {
		got := port.all()
		return len(got) == 1 && bytes.Equal(got[0].bytes, data)
	})
	if s := r.status(); s.Gaps != 0 || s.Sent != 6000 {
		t.Errorf("%+v", s)
	}
}

// A process that ends between OPEN and ACCEPT leaves a session with the owner
// that is not in the way of the next, also where the holder keeps the device.
func TestRestartBetweenOpenAndAccept(t *testing.T) {
	r, port := newRebornAt(t, rule.Rule{Busy: rule.BusyRefuse})
	app := r.open()
	mustWrite(t, app, []byte("early"))
	r.mu.Lock()
	r.mute, r.down = true, false
	r.mu.Unlock()
	r.eventually("the owner has a session", func() bool { return len(r.publisher.Sessions()) == 1 })
	r.end()
	r.mu.Lock()
	r.mute = false
	r.mu.Unlock()
	r.start()
	r.becomes(use.Connected)
	r.eventually("it is written", func() bool {
		got := port.all()
		return len(got) == 1 && string(got[0].bytes) == "early"
	})
	if s := r.status(); s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
}
