package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

const (
	consumers = 4
	// lineRate is 115,200 bit/s with a start and a stop bit, in bytes/s.
	lineRate = 11520
	// saysEvery is how often a device says something: 230 bytes each.
	saysEvery = 20 * time.Millisecond
)

// The chains of samples of many devices at once.
const (
	chainManyPTY = "devices-pty" // without anything in between: what the harness adds
	chainMany    = "devices"
)

// said is where a device had got to, and when.
type said struct {
	bytes int
	at    time.Time
}

// talk lets a device say data at the line's rate, and reads it as an
// application. It returns for each piece how long after it was said its last
// byte was read, in seconds. Other bytes than those, or in another order, are
// an error.
func talk(ctx context.Context, stick, app lab.End, data []byte) ([]float64, error) {
	pieces := make(chan said, len(data)) // never full
	var saying sync.WaitGroup
	defer saying.Wait()
	var delays []float64
	err := within(ctx, []lab.End{stick, app}, func() error {
		saying.Go(func() {
			if err := speak(stick, data, pieces); err != nil {
				_ = app.SetDeadline(time.Unix(1, 0))
			}
		})
		buffer, got := make([]byte, 4096), 0
		var next said
		for got < len(data) {
			n, err := app.Read(buffer[:min(len(buffer), len(data)-got)])
			now := time.Now()
			if !bytes.Equal(buffer[:n], data[got:got+n]) {
				return fmt.Errorf("the bytes from %d on are not those that were said", got)
			}
			got += n
			for more := true; more && next.bytes <= got; {
				if next.bytes > 0 {
					delays = append(delays, now.Sub(next.at).Seconds())
				}
				select {
				case next = <-pieces:
				default:
					next, more = said{}, false
				}
			}
			if err != nil {
				return fmt.Errorf("after %d of %d bytes: %w", got, len(data), err)
			}
		}
		return nil
	})
	return delays, err
}

// speak writes data at the line's rate; who was held up catches up.
func speak(stick io.Writer, data []byte, pieces chan<- said) error {
	tick := time.NewTicker(saysEvery)
	defer tick.Stop()
	start, done := time.Now(), 0
	for done < len(data) {
		<-tick.C
		due := min(len(data), int(time.Since(start).Seconds()*lineRate))
		if due <= done {
			continue
		}
		// Before the write: a reader may be faster than this goroutine.
		pieces <- said{due, time.Now()}
		if _, err := stick.Write(data[done:due]); err != nil {
			return err
		}
		done = due
	}
	return nil
}

// crowd is many devices, the applications that have them open, and the agents
// in between, the edge first.
type crowd struct {
	name   string // of the samples
	sticks []*lab.TTY
	apps   []*os.File
	pids   []int
}

// newCrowd starts an edge with so many devices and four consumers that have a
// share of them each.
func newCrowd(tb testing.TB, r revised, count int) *crowd {
	tb.Helper()
	progress("open %s: %d", r.name, count)
	c := &crowd{name: r.name}
	names := []string{"edge"}
	for i := range consumers {
		names = append(names, fmt.Sprintf("consumer%d", i))
	}
	n := lab.NewNetwork(tb, names...)
	var rules []lab.Settings
	name := func(i int) string { return fmt.Sprintf("line-%02d", i) }
	for i := range count {
		c.sticks = append(c.sticks, lab.NewTTY(tb))
		rules = append(rules, lab.Settings{"match": lab.Settings{"path": c.sticks[i].Path}, "name": name(i), "line": "115200n81"})
	}
	secret := lab.NewSecretBy(tb, r.program)
	agents := []*lab.Agent{lab.StartAgentBy(tb, r.program, n.Host("edge"), "edge", secret, quietly(lab.Settings{"devices": lab.Settings{"rules": rules}}))}
	for _, consumer := range names[1:] {
		agents = append(agents, lab.StartAgentBy(tb, r.program, n.Host(consumer), consumer, secret, quietly(lab.Settings{"cluster": joining(n.Host("edge"))})))
	}
	for i := range count {
		a := agents[1+i%consumers]
		a.WaitDevice(name(i), 30*time.Second)
		link := filepath.Join(a.Dir, name(i))
		a.MustRun("attach", name(i), "--pty", link)
		c.apps = append(c.apps, lab.OpenTTY(tb, link))
		a.WaitAttachment(link, client.AttachmentConnected, 20*time.Second)
	}
	for _, a := range agents {
		c.pids = append(c.pids, a.PID)
	}
	return c
}

// talk lets all devices talk at once and samples the delays.
func (c *crowd) talk(tb testing.TB, data []byte, round int, s *samples) {
	tb.Helper()
	delays, errs := make([][]float64, len(c.sticks)), make([]error, len(c.sticks))
	var all sync.WaitGroup
	for i := range c.sticks {
		all.Go(func() {
			// Not all at the same moment.
			offset := i * 4096 % (len(data) / 2)
			mine := slices.Concat(data[offset:], data[:offset])
			if delays[i], errs[i] = talk(tb.Context(), c.sticks[i], c.apps[i], mine); errs[i] != nil {
				errs[i] = fmt.Errorf("device %d: %w", i, errs[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatalf("%s: %v", c.name, err)
	}
	together := slices.Concat(delays...)
	s.add(c.name, "delay_p50", round, quantile(together, 0.5), "s")
	s.add(c.name, "delay_p99", round, quantile(together, 0.99), "s")
	s.add(c.name, "delay_worst", round, quantile(together, 1), "s")
}

// many measures count devices that talk for so long, with nothing in between
// and through the agents of each revision, by turns.
func many(tb testing.TB, revisions []revised, count, rounds int, during time.Duration, s *samples) {
	tb.Helper()
	alone := &crowd{name: chainManyPTY}
	for i := range count {
		alone.sticks = append(alone.sticks, lab.NewTTY(tb))
		alone.apps = append(alone.apps, lab.OpenTTY(tb, alone.sticks[i].Path))
	}
	var crowds []*crowd
	for _, r := range revisions {
		crowds = append(crowds, newCrowd(tb, r, count))
	}
	data := payload(int(during.Seconds() * lineRate))
	for round := range rounds {
		progress("%d devices, round %d of %d", count, round+1, rounds)
		alone.talk(tb, data, round, s)
		for i := range crowds {
			c := crowds[(i+round)%len(crowds)]
			edge, all, start := cpuTime(tb, c.pids[:1]), cpuTime(tb, c.pids), time.Now()
			c.talk(tb, data, round, s)
			took := time.Since(start).Seconds()
			s.add(c.name, "cpu_edge", round, (cpuTime(tb, c.pids[:1])-edge).Seconds()/took, "cores")
			s.add(c.name, "cpu_all", round, (cpuTime(tb, c.pids)-all).Seconds()/took, "cores")
			sum, _ := resident(tb, c.pids[:1])
			s.add(c.name, "rss_edge", round, sum, "B")
			_, largest := resident(tb, c.pids[1:])
			s.add(c.name, "rss_largest_consumer", round, largest, "B")
			for _, q := range []string{"delay_p50", "delay_p99", "delay_worst"} {
				with, without := s.of(c.name, q), s.of(chainManyPTY, q)
				s.add(c.name, "added_"+q, round, with[round]-without[round], "s")
			}
		}
	}
}

// BenchmarkDevices is the part of `make bench` with many devices at once.
func BenchmarkDevices(b *testing.B) {
	lab.NeedRoot(b)
	tb, s := interruptible(b), newSamples(b)
	many(tb, []revised{{chainMany, lab.Program(b)}}, *devicesFlag, *roundsFlag, *talkFlag, s)
	finish(b, s, func(w io.Writer) {
		fmt.Fprintf(w, "%d devices at 115,200 bit/s to %d consumers, bytes exact; medians of the rounds\n", *devicesFlag, consumers)
		listTable(w, s)
	})
}
