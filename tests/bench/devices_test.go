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

// talkAll lets all devices talk at once and samples the delays.
func talkAll(ctx context.Context, sticks []*lab.TTY, apps []*os.File, data []byte, chain string, round int, s *samples) error {
	delays, errs := make([][]float64, len(sticks)), make([]error, len(sticks))
	var all sync.WaitGroup
	for i := range sticks {
		all.Go(func() {
			// Not all at the same moment.
			offset := i * 4096 % (len(data) / 2)
			mine := slices.Concat(data[offset:], data[:offset])
			if delays[i], errs[i] = talk(ctx, sticks[i], apps[i], mine); errs[i] != nil {
				errs[i] = fmt.Errorf("device %d: %w", i, errs[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	together := slices.Concat(delays...)
	s.add(chain, "delay_p50", round, quantile(together, 0.5), "s")
	s.add(chain, "delay_p99", round, quantile(together, 0.99), "s")
	s.add(chain, "delay_worst", round, quantile(together, 1), "s")
	return nil
}

// manyDevices starts an edge with so many devices and four consumers that have
// a share of them each. It returns the devices, the applications' ends and the
// agents, the edge first.
func manyDevices(tb testing.TB, program string, count int) (sticks []*lab.TTY, apps []*os.File, agents []*lab.Agent) {
	tb.Helper()
	names := []string{"edge"}
	for i := range consumers {
		names = append(names, fmt.Sprintf("consumer%d", i))
	}
	n := lab.NewNetwork(tb, names...)
	var rules []lab.Settings
	name := func(i int) string { return fmt.Sprintf("line-%02d", i) }
	for i := range count {
		sticks = append(sticks, lab.NewTTY(tb))
		rules = append(rules, lab.Settings{"match": lab.Settings{"path": sticks[i].Path}, "name": name(i), "line": "115200n81"})
	}
	secret := lab.NewSecretBy(tb, program)
	agents = append(agents, lab.StartAgentBy(tb, program, n.Host("edge"), "edge", secret, quietly(lab.Settings{"devices": lab.Settings{"rules": rules}})))
	for _, consumer := range names[1:] {
		agents = append(agents, lab.StartAgentBy(tb, program, n.Host(consumer), consumer, secret, quietly(lab.Settings{"cluster": joining(n.Host("edge"))})))
	}
	for i := range count {
		a := agents[1+i%consumers]
		a.WaitDevice(name(i), 30*time.Second)
		link := filepath.Join(a.Dir, name(i))
		a.MustRun("attach", name(i), "--pty", link)
		apps = append(apps, lab.OpenTTY(tb, link))
		a.WaitAttachment(link, client.AttachmentConnected, 20*time.Second)
	}
	return sticks, apps, agents
}

// many measures count devices that talk for so long, with nothing in between
// and through agents, by turns.
func many(tb testing.TB, program string, count, rounds int, during time.Duration, s *samples) {
	tb.Helper()
	var alone []*lab.TTY
	var beside []*os.File
	for range count {
		alone = append(alone, lab.NewTTY(tb))
		beside = append(beside, lab.OpenTTY(tb, alone[len(alone)-1].Path))
	}
	progress("open %d devices", count)
	sticks, apps, agents := manyDevices(tb, program, count)
	var pids []int
	for _, a := range agents {
		pids = append(pids, a.PID)
	}
	data := payload(int(during.Seconds() * lineRate))
	for round := range rounds {
		progress("%d devices, round %d of %d", count, round+1, rounds)
		if err := talkAll(tb.Context(), alone, beside, data, chainManyPTY, round, s); err != nil {
			tb.Fatal(err)
		}
		edge, all, start := cpuTime(tb, pids[:1]), cpuTime(tb, pids), time.Now()
		if err := talkAll(tb.Context(), sticks, apps, data, chainMany, round, s); err != nil {
			tb.Fatal(err)
		}
		took := time.Since(start).Seconds()
		s.add(chainMany, "cpu_edge", round, (cpuTime(tb, pids[:1])-edge).Seconds()/took, "cores")
		s.add(chainMany, "cpu_all", round, (cpuTime(tb, pids)-all).Seconds()/took, "cores")
		sum, _ := resident(tb, pids[:1])
		s.add(chainMany, "rss_edge", round, sum, "B")
		_, largest := resident(tb, pids[1:])
		s.add(chainMany, "rss_largest_consumer", round, largest, "B")
		for _, q := range []string{"delay_p50", "delay_p99", "delay_worst"} {
			with, without := s.of(chainMany, q), s.of(chainManyPTY, q)
			s.add(chainMany, "added_"+q, round, with[round]-without[round], "s")
		}
	}
}

// BenchmarkDevices is the part of `make bench` with many devices at once.
func BenchmarkDevices(b *testing.B) {
	lab.NeedRoot(b)
	tb, s := interruptible(b), newSamples(b)
	many(tb, lab.Program(b), *devicesFlag, *roundsFlag, *talkFlag, s)
	finish(b, s, func(w io.Writer) {
		fmt.Fprintf(w, "%d devices at 115,200 bit/s to %d consumers, bytes exact; medians of the rounds\n", *devicesFlag, consumers)
		listTable(w, s)
	})
}
