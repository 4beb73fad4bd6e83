package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// chainEvents is the chain of samples that belong to events: how long something
// that happens keeps an application waiting.
const chainEvents = "events"

// revised is a program to be measured, and the name of its samples.
type revised struct{ name, program string }

// events makes each event happen n times with each revision, by turns.
func events(tb testing.TB, revisions []revised, n int, s *samples) {
	tb.Helper()
	type world struct {
		*revised
		pair *pair
		trio *trio
	}
	var worlds []world
	for i := range revisions {
		progress("open %s", revisions[i].name)
		worlds = append(worlds, world{&revisions[i], newPair(tb, revisions[i].program), newTrio(tb, revisions[i].program)})
	}
	for i := range idleRounds {
		progress("idle, %d of %d", i+1, idleRounds)
		for _, w := range worlds {
			s.add(w.name, "idle_cpu", i, w.trio.idle(tb), "cores")
		}
	}
	for i := range n {
		progress("events, %d of %d", i+1, n)
		for _, w := range worlds {
			for _, event := range []struct {
				measure string
				happen  func(testing.TB) time.Duration
			}{
				{"resume", w.pair.resume}, {"replug", w.pair.replug}, {"direct_to_relay", w.trio.relay},
				{"start_edge", w.trio.startEdge}, {"start_consumer", w.trio.startConsumer},
			} {
				s.add(w.name, event.measure, i, event.happen(tb).Seconds(), "s")
			}
		}
	}
}

// pair is an edge and a consumer, whose only path can be cut, and a stick that
// can be pulled out: a symbolic link to a PTY, named by a rule's path.
type pair struct {
	*cluster
	app   *os.File
	dir   string
	stick *scope // while it is plugged in
}

func newPair(tb testing.TB, program string) *pair {
	tb.Helper()
	p := &pair{dir: tb.TempDir()}
	n := hosts(tb)
	secret := lab.NewSecretBy(tb, program)
	p.cluster = &cluster{network: n}
	p.plug(tb)
	p.edge = lab.StartAgentBy(tb, program, n.Host("edge"), "edge", secret, quietly(lab.Settings{"devices": lab.Device(deviceName, p.path())}))
	p.consumer = lab.StartAgentBy(tb, program, n.Host("consumer"), "consumer", secret, quietly(lab.Settings{"cluster": joining(n.Host("edge"))}))
	p.consumer.WaitDevice(deviceName, 20*time.Second)
	p.link = filepath.Join(p.consumer.Dir, "tty")
	p.consumer.MustRun("attach", deviceName, "--pty", p.link)
	p.app = lab.OpenTTY(tb, p.link)
	answers(tb, p.app)
	return p
}

func (p *pair) path() string { return filepath.Join(p.dir, "stick") }

func (p *pair) plug(tb testing.TB) {
	tb.Helper()
	p.stick = newScope(tb)
	p.device = newDevice(p.stick)
	if err := os.Symlink(p.device.Path, p.path()); err != nil {
		tb.Fatal(err)
	}
}

// resume cuts the path for a while under a waiting application and returns how
// long after the path was back it had its answer. Not less than it was: the
// clock starts before the command that ends the cut.
func (p *pair) resume(tb testing.TB) time.Duration {
	tb.Helper()
	answers(tb, p.app)
	back := p.network.Block(tb, p.network.Host("edge").Addr, p.network.Host("consumer").Addr)
	say(tb, p.app)
	// Of any length, so that no timer of ours keeps step with it; longer than
	// it takes to notice, shorter than the hold time.
	pause(tb, 1500*time.Millisecond+rand.N(2*time.Second))
	start := time.Now()
	back()
	hear(tb, p.app)
	return time.Since(start)
}

// replug pulls the stick out under an application that asks something, plugs
// another PTY in, and returns how long after that it had its answer.
func (p *pair) replug(tb testing.TB) time.Duration {
	tb.Helper()
	answers(tb, p.app)
	if err := os.Remove(p.path()); err != nil {
		tb.Fatal(err)
	}
	p.stick.close()
	untilDevice(tb, p.edge, client.DeviceAway)
	say(tb, p.app)
	start := time.Now()
	p.plug(tb)
	hear(tb, p.app)
	return time.Since(start)
}

// trio is an edge, a consumer and a third that can relay and that both join at.
type trio struct {
	*cluster
	app *os.File
}

func newTrio(tb testing.TB, program string) *trio {
	tb.Helper()
	t := &trio{cluster: newCluster(tb, program, hosts(tb, "third"), true)}
	t.app = lab.OpenTTY(tb, t.link)
	answers(tb, t.app)
	return t
}

// idleRounds is how often, idleTime how long the idle agents are watched.
const (
	idleRounds = 3
	idleTime   = 10 * time.Second
)

// idle returns the share of a core that the busiest of three agents takes while
// nobody has the device open.
func (t *trio) idle(tb testing.TB) (share float64) {
	tb.Helper()
	_ = t.app.Close()
	untilDevice(tb, t.consumer, client.DeviceAvailable)
	before := make(map[int]time.Duration)
	for _, pid := range t.pids() {
		before[pid] = cpuTime(tb, []int{pid})
	}
	start := time.Now()
	pause(tb, idleTime)
	for pid, was := range before {
		share = max(share, (cpuTime(tb, []int{pid})-was).Seconds()/time.Since(start).Seconds())
	}
	t.app = lab.OpenTTY(tb, t.link)
	answers(tb, t.app)
	return share
}

// relay cuts the direct path under an application and returns how long it then
// waits for an answer, which comes by the third.
func (t *trio) relay(tb testing.TB) time.Duration {
	tb.Helper()
	answers(tb, t.app)
	t.wantPath(tb, "direct", 90*time.Second)
	start := time.Now()
	back := t.network.Block(tb, t.network.Host("edge").Addr, t.network.Host("consumer").Addr)
	say(tb, t.app)
	hear(tb, t.app)
	took := time.Since(start)
	t.wantPath(tb, "via third", 10*time.Second)
	back()
	return took
}

// startEdge starts the edge's agent again and returns how long after that the
// consumer gets an answer of the device.
func (t *trio) startEdge(tb testing.TB) time.Duration {
	tb.Helper()
	_ = t.app.Close()
	t.edge.Stop()
	untilDevice(tb, t.consumer, client.DeviceAway)
	start := time.Now()
	t.edge.Start()
	untilDevice(tb, t.consumer, client.DeviceAvailable)
	ctx, cancel := context.WithTimeout(tb.Context(), eventTime)
	defer cancel()
	stream, err := t.consumer.Client().OpenRaw(ctx, deviceName, 0)
	if err != nil {
		tb.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	_, err = io.WriteString(stream, "!")
	if err == nil {
		_, err = io.ReadFull(stream, make([]byte, 1))
	}
	took := time.Since(start)
	stop()
	_ = stream.Close()
	if err != nil {
		tb.Fatalf("ask the device after the edge's start: %v", err)
	}
	t.edge.WaitControl()
	t.app = lab.OpenTTY(tb, t.link)
	return took
}

// startConsumer starts the consumer's agent again, which has an attachment from
// before, and returns how long after that an application that opens it as soon
// as it is there has an answer.
func (t *trio) startConsumer(tb testing.TB) time.Duration {
	tb.Helper()
	_ = t.app.Close()
	t.consumer.Stop()
	start := time.Now()
	t.consumer.Start()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(t.link); err == nil {
			break
		} else if time.Since(start) > eventTime {
			tb.Fatalf("wait for the attachment after the consumer's start: %v", err)
		}
		<-tick.C
	}
	t.app = lab.OpenTTY(tb, t.link)
	say(tb, t.app)
	hear(tb, t.app)
	took := time.Since(start)
	t.consumer.WaitControl()
	return took
}

// eventTime bounds what an application waits for.
const eventTime = 30 * time.Second

func say(tb testing.TB, app *os.File) {
	tb.Helper()
	_ = app.SetDeadline(time.Now().Add(eventTime))
	if _, err := app.Write([]byte{'!'}); err != nil {
		tb.Fatal(err)
	}
}

func hear(tb testing.TB, app *os.File) {
	tb.Helper()
	err := within(tb.Context(), []lab.End{app}, func() error {
		_ = app.SetDeadline(time.Now().Add(eventTime))
		_, err := io.ReadFull(app, make([]byte, 1))
		return err
	})
	if err != nil {
		tb.Fatalf("wait for the device's answer: %v", err)
	}
}

// pause lets time pass: the length of an outage.
func pause(tb testing.TB, d time.Duration) {
	tb.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-tb.Context().Done():
		tb.Fatal(tb.Context().Err())
	}
}

// untilDevice waits until the agent tells of that state of the device.
func untilDevice(tb testing.TB, a *lab.Agent, want client.DeviceState) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), eventTime)
	defer cancel()
	found, last := errors.New("found"), client.DeviceState("none")
	err := a.Client().Watch(ctx, client.ListDevices, func(text []byte) error {
		var answer client.DevicesAnswer
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		last = "none"
		for _, d := range answer.Devices {
			if d.Name == deviceName {
				last = d.State
			}
		}
		if last == want {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		tb.Fatal(fmt.Errorf("wait for the device to be %s on %s: it is %s: %w", want, a.Name, last, err))
	}
}

// BenchmarkEvents is the part of `make bench` about what makes applications
// wait.
func BenchmarkEvents(b *testing.B) {
	lab.NeedRoot(b)
	lab.NeedTools(b, "nft")
	tb, s := interruptible(b), newSamples(b)
	events(tb, []revised{{chainEvents, lab.Program(b)}}, *eventsFlag, s)
	finish(b, s, func(w io.Writer) { targetTable(w, s) })
}
