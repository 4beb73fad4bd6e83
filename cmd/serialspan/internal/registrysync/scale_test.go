package registrysync_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/serialspan/serialspan/mesh/meshtest"
)

// The flags of `make bench PARTS=Scale`; tests/bench/README.md has their make
// variables.
var (
	scaleFlag = flag.String("members", "", "sizes of the meshes to measure, separated by commas; default one small mesh")
	outFlag   = flag.String("out", "", "file of the results, JSON lines; default none")
	realFlag  = flag.Int("wireguard", 100, "up to this size also with WireGuard, above it only with a pass-through in its place")
)

// scaleLink is what lies between any two members.
var scaleLink = meshtest.Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond}

// scaled is what a mesh of some size costs. Traffic is sent, per member and second.
type scaled struct {
	members     int
	passThrough bool

	start         time.Duration // from the last start to everybody knowing everything
	joined        time.Duration // one more member knows everything; the median
	seen          time.Duration // everybody knows its devices; the median
	median, worst time.Duration // of changes, over members and changes
	idle, busy    traffic
	startUp       traffic // per member, in all
	heap          float64 // bytes per member
	cpu           float64 // share of a core per member while idle, in virtual time
	goroutines    float64 // per member
}

type traffic struct{ messages, bytes float64 }

// plan is how long what is measured.
type plan struct {
	perSecond        int // members started
	joins, changes   int
	rest, idle, busy time.Duration
}

func (c *crowd) rate(d time.Duration, during func()) traffic {
	messages, bytes := c.traffic()
	during()
	messagesAfter, bytesAfter := c.traffic()
	n := float64(len(c.all)) * d.Seconds()
	return traffic{float64(messagesAfter-messages) / n, float64(bytesAfter-bytes) / n}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// measureScale makes a mesh of n members and measures it.
func measureScale(t *testing.T, n int, passThrough bool, p plan, say func(string, ...any)) (s scaled) {
	synctest.Test(t, func(t *testing.T) {
		s = scaled{members: n, passThrough: passThrough}
		before := heapInUse()
		c := newCrowd(t, scaleLink, passThrough)
		defer c.stop()
		for i := range n {
			c.add()
			if (i+1)%p.perSecond == 0 {
				time.Sleep(time.Second)
			}
		}
		s.start = c.settle(10 * time.Minute)
		say("%d members know each other after %v", n, s.start)
		messages, bytes := c.traffic()
		s.startUp = traffic{float64(messages) / float64(n), float64(bytes) / float64(n)}
		say("start: %.0f messages, %.0f kB each", s.startUp.messages, s.startUp.bytes/1e3)
		time.Sleep(p.rest)

		var all []time.Duration
		for i := range p.changes {
			took := c.arrival(c.all[(i*7+1)%n].change(i), time.Minute)
			all = append(all, took...)
			time.Sleep(2 * time.Second)
		}
		slices.Sort(all)
		s.median, s.worst = all[len(all)/2], all[len(all)-1]
		say("changes: median %v, worst %v", s.median, s.worst)
		s.busy = c.rate(p.busy, func() {
			for i := range int(p.busy / time.Second) {
				c.all[(i*11+3)%n].change(100 + i)
				time.Sleep(time.Second)
			}
		})
		say("busy %.1f messages/s, %.0f B/s", s.busy.messages, s.busy.bytes)
		time.Sleep(p.rest)
		spent := cpuTime()
		s.idle = c.rate(p.idle, func() { time.Sleep(p.idle) })
		s.cpu = (cpuTime() - spent).Seconds() / p.idle.Seconds() / float64(n)
		s.heap = (heapInUse() - before) / float64(n)
		s.goroutines = float64(runtime.NumGoroutine()) / float64(n)
		say("idle %.1f messages/s, %.0f B/s, heap %.0f kB, cpu %.4f", s.idle.messages, s.idle.bytes, s.heap/1e3, s.cpu)

		var joined, seen []time.Duration
		for range p.joins {
			began := time.Now()
			o := c.add()
			a := c.expect(o.devices[devicesEach-1].Name, "")
			for !o.complete(len(c.all)) && time.Since(began) < time.Minute {
				time.Sleep(5 * time.Millisecond)
			}
			joined = append(joined, time.Since(began))
			took := c.arrival(a, time.Minute)
			seen = append(seen, took[len(took)-1])
			time.Sleep(5 * time.Second)
		}
		slices.Sort(joined)
		slices.Sort(seen)
		s.joined, s.seen = joined[len(joined)/2], seen[len(seen)/2]
	})
	return s
}

// title says what a mesh was made of.
func (s scaled) title() string {
	if s.passThrough {
		return fmt.Sprintf("%d, pass-through", s.members)
	}
	return fmt.Sprintf("%d, WireGuard", s.members)
}

func scaleTable(w io.Writer, all []scaled) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "members\tall started\tjoin\tits devices everywhere\tchange, median\tworst\tidle\t\tunder 1 change/s\t\theap each\tgoroutines\tCPU each")
	for _, s := range all {
		ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
		fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%v\t%v\t%.2f msg/s\t%.0f B/s\t%.2f msg/s\t%.0f B/s\t%.2f MB\t%.0f\t× %.2f\n", s.title(), ms(s.start), ms(s.joined), ms(s.seen), ms(s.median), ms(s.worst),
			s.idle.messages, s.idle.bytes, s.busy.messages, s.busy.bytes, s.heap/1e6, s.goroutines, s.cpu/all[0].cpu)
	}
	_ = table.Flush()
}

// rows writes the lines of the file of results, as tests/bench does.
func (s scaled) rows(w io.Writer) error {
	chain := fmt.Sprintf("members-%d", s.members)
	if s.passThrough {
		chain += "-passthrough"
	}
	for _, row := range []struct {
		measure string
		value   float64
		unit    string
	}{
		{"scale_start", s.start.Seconds(), "s"}, {"scale_join", s.joined.Seconds(), "s"}, {"scale_join_seen", s.seen.Seconds(), "s"},
		{"scale_change_p50", s.median.Seconds(), "s"}, {"scale_change_worst", s.worst.Seconds(), "s"},
		{"scale_start_messages", s.startUp.messages, ""}, {"scale_start_bytes", s.startUp.bytes, "B"},
		{"scale_idle_messages", s.idle.messages, "1/s"}, {"scale_idle_bytes", s.idle.bytes, "B/s"},
		{"scale_busy_messages", s.busy.messages, "1/s"}, {"scale_busy_bytes", s.busy.bytes, "B/s"},
		{"scale_heap", s.heap, "B"}, {"scale_idle_cpu", s.cpu, "cores"},
	} {
		if err := writeRow(w, chain, row.measure, row.value, row.unit); err != nil {
			return err
		}
	}
	return nil
}

func writeRow(w io.Writer, chain, measure string, value float64, unit string) error {
	line, err := json.Marshal(map[string]any{"chain": chain, "measure": measure, "round": 0, "value": value, "unit": unit})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(line))
	return err
}

// TestScale measures whole meshes in virtual time.
func TestScale(t *testing.T) {
	if *scaleFlag == "" {
		testSmallScale(t)
		return
	}
	out := io.Discard
	if *outFlag != "" {
		file, err := os.OpenFile(*outFlag, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		out = file
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "scale: "+format+"\n", args...) }
	var all []scaled
	for size := range strings.SplitSeq(*scaleFlag, ",") {
		var n int
		if _, err := fmt.Sscan(size, &n); err != nil || n < 2 {
			t.Fatalf("-members: %q is not a number from 2 up", size)
		}
		for _, passThrough := range []bool{false, true} {
			if !passThrough && n > *realFlag {
				continue
			}
			p := plan{perSecond: 20, joins: 3, changes: 10, rest: 6 * time.Minute, idle: 2 * time.Minute, busy: time.Minute}
			if n > 300 { // as little as shows it
				p = plan{perSecond: 40, joins: 1, changes: 5, rest: 30 * time.Second, idle: 30 * time.Second, busy: 15 * time.Second}
			}
			s := measureScale(t, n, passThrough, p, say)
			if err := s.rows(out); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	scaleTable(os.Stdout, all)
}

func testSmallScale(t *testing.T) {
	p := plan{perSecond: 20, joins: 1, changes: 3, rest: 20 * time.Second, idle: time.Minute, busy: 10 * time.Second}
	for _, passThrough := range []bool{false, true} {
		s := measureScale(t, 12, passThrough, p, t.Logf)
		if s.worst > 2*time.Second {
			t.Errorf("%s: a change took %v", s.title(), s.worst)
		}
		if s.idle.bytes > 2000 {
			t.Errorf("%s: idle members send %.0f B/s", s.title(), s.idle.bytes)
		}
	}
}
