package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The flags of the benchmarks; README.md has their make variables.
var (
	roundsFlag  = flag.Int("rounds", 5, "rounds; each asks every chain once")
	chainsFlag  = flag.String("chains", "", "chains to measure, separated by commas; default all")
	pingsFlag   = flag.Int("pings", 1000, "round trips of 16 bytes in a round; half as many of the other sizes")
	echoFlag    = flag.Int("echo", 8, "MB to be echoed in a round")
	streamFlag  = flag.Int("stream", 32, "MB one way in a round")
	eventsFlag  = flag.Int("events", 30, "how often each event is made to happen")
	devicesFlag = flag.Int("devices", 64, "devices that talk at once")
	talkFlag    = flag.Duration("talk", 10*time.Second, "how long they talk")
	outFlag     = flag.String("out", "", "file of the results, JSON lines; default none")
	baseFlag    = flag.String("base", "", "revision to compare with")
)

// load is what one round asks of a chain.
type load struct {
	pings        int           // of 16 bytes; half as many of the other sizes
	echo, stream []byte        // one way there and back; one way
	rest         time.Duration // how long nothing is asked before idle memory is read
}

// restTime is twice what an agent takes to see that its start is over, and to
// give back what that took.
const restTime = 10 * time.Second

// pingSizes are the round trips' sizes in bytes; quantiles, in percent, are
// what is kept of a round's.
var (
	pingSizes = []int{1, 16, 256}
	quantiles = []int{50, 90, 99}
)

func loadOf(pings, echoMB, streamMB int) load {
	return load{pings: pings, echo: payload(echoMB * 1e6), stream: payload(streamMB * 1e6), rest: restTime}
}

// header is the first line of the file of results.
type header struct {
	Kind     string `json:"kind"` // "run"
	Revision string `json:"revision"`
	Base     string `json:"base,omitempty"`
	Go       string `json:"go"`
	Kernel   string `json:"kernel"`
	CPUs     int    `json:"cpus"`
	Load     string `json:"load"`
}

// note is a line of the file about a chain that was not measured.
type note struct {
	Kind   string `json:"kind"` // "unavailable"
	Chain  string `json:"chain"`
	Reason string `json:"reason"`
}

func describe(base string) header {
	var name unix.Utsname
	_ = unix.Uname(&name)
	load, _ := os.ReadFile("/proc/loadavg")
	return header{
		Kind: "run", Revision: describeTree(), Base: base, Go: runtime.Version(),
		Kernel: unix.ByteSliceToString(name.Release[:]), CPUs: runtime.NumCPU(), Load: strings.TrimSpace(string(load)),
	}
}

// progress tells a person who waits what goes on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// newSamples returns samples that are appended to -out.
func newSamples(tb testing.TB) *samples {
	tb.Helper()
	s := &samples{}
	if *outFlag != "" {
		file, err := os.OpenFile(*outFlag, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = file.Close() })
		s.out = file
	}
	s.write(describe(*baseFlag))
	return s
}

// candidate is a chain to be opened: a kind, and in which revision.
type candidate struct {
	kind          *chainKind
	name, program string
}

// open opens the candidates.
// Those that are not to be had are told and left out.
func open(tb testing.TB, all []candidate, s *samples, missing map[string]string) []*chain {
	tb.Helper()
	var chains []*chain
	for _, one := range all {
		if missing[one.name] != "" {
			continue
		}
		progress("open %s", one.name)
		own := newScope(tb)
		c, reason := one.kind.open(own, one.program)
		if reason != "" {
			own.close()
			progress("%s: %s", one.name, reason)
			missing[one.name] = reason
			s.write(note{Kind: "unavailable", Chain: one.name, Reason: reason})
			continue
		}
		c.kind, c.name = one.kind, one.name
		chains = append(chains, c)
	}
	return chains
}

// memory samples the resident memory of the chains' processes.
func memory(tb testing.TB, chains []*chain, s *samples, when string, round int) {
	tb.Helper()
	for _, c := range chains {
		if pids := c.pids(); len(pids) > 0 {
			all, largest := resident(tb, pids)
			s.add(c.name, "rss_"+when, round, all, "B")
			s.add(c.name, "rss_"+when+"_largest", round, largest, "B")
		}
	}
}

// measure runs the rounds. fresh: the chains are opened anew for each, so that
// what a process happened to begin with counts as noise too.
func measure(tb testing.TB, all []candidate, l load, rounds int, fresh bool, s *samples) (missing map[string]string) {
	tb.Helper()
	missing = map[string]string{}
	inside := newScope(tb)
	var chains []*chain
	for round := range rounds {
		if fresh || round == 0 {
			inside.close()
			chains = open(inside, all, s, missing)
			for _, c := range chains { // what happens once is no part of the figures
				if _, err := ping(tb.Context(), c.app, 16, 1+l.pings/10); err != nil {
					tb.Fatalf("%s: %v", c.name, err)
				}
			}
			pause(tb, l.rest)
			memory(tb, chains, s, "idle", round)
		}
		progress("round %d of %d", round+1, rounds)
		turn(tb, ordered(chains, round), l, round, s)
		if fresh || round == rounds-1 {
			memory(tb, chains, s, "after", round)
		}
	}
	inside.close()
	return missing
}

// ordered returns the chains in the order of a round: each round begins with
// another one, and every other goes backwards, so that none always comes first
// or after the same one.
func ordered(chains []*chain, round int) []*chain {
	if len(chains) == 0 {
		return nil
	}
	first := round % len(chains)
	order := slices.Concat(chains[first:], chains[:first])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// turn asks each chain once for everything.
func turn(tb testing.TB, chains []*chain, l load, round int, s *samples) {
	tb.Helper()
	for _, size := range pingSizes {
		n := l.pings
		if size != 16 {
			n = max(1, n/2)
		}
		roundTrips(tb, chains, size, n, round, s)
	}
	throughput(tb, chains, "echo", l.echo, round, s, func(c *chain, data []byte) (time.Duration, error) {
		return echoed(tb.Context(), c.app, data)
	})
	throughput(tb, chains, "stream", l.stream, round, s, func(c *chain, data []byte) (time.Duration, error) {
		return streamed(tb.Context(), c.device, c.app, data)
	})
}

// sliceOf is how many round trips a chain makes before it is the next one's
// turn within a round: few, because a busy machine's moods are short.
const sliceOf = 50

// roundTrips samples n round trips of each chain.
func roundTrips(tb testing.TB, chains []*chain, size, n, round int, s *samples) {
	tb.Helper()
	took, cpu := make([][]float64, len(chains)), make([]time.Duration, len(chains))
	for done := 0; done < n; done += sliceOf {
		for i, c := range chains {
			before := cpuTime(tb, c.pids())
			some, err := ping(tb.Context(), c.app, size, min(sliceOf, n-done))
			if err != nil {
				tb.Fatalf("%s: round trips of %d bytes: %v", c.name, size, err)
			}
			cpu[i] += cpuTime(tb, c.pids()) - before
			took[i] = append(took[i], some...)
		}
	}
	for i, c := range chains {
		for _, q := range quantiles {
			s.add(c.name, fmt.Sprintf("rt%d_p%d", size, q), round, quantile(took[i], float64(q)/100), "s")
		}
		if cpu[i] > 0 { // none without processes
			s.add(c.name, fmt.Sprintf("cpu_per_1000_rt_%d", size), round, cpu[i].Seconds()*1000/float64(n), "s")
		}
	}
}

// throughput samples how fast carry takes data, or the chain's part of it,
// through each chain.
func throughput(tb testing.TB, chains []*chain, measure string, all []byte, round int, s *samples, carry func(*chain, []byte) (time.Duration, error)) {
	tb.Helper()
	for _, c := range chains {
		data := all[:len(all)/max(1, c.kind.part)]
		if len(data) == 0 {
			continue
		}
		before := cpuTime(tb, c.pids())
		took, err := carry(c, data)
		if err != nil {
			tb.Fatalf("%s: %s: %v", c.name, measure, err)
		}
		s.add(c.name, measure, round, float64(len(data))/took.Seconds(), "B/s")
		if spent := cpuTime(tb, c.pids()) - before; spent > 0 {
			s.add(c.name, "cpu_per_MB_"+measure, round, spent.Seconds()/(float64(len(data))/1e6), "s")
		}
	}
}

// BenchmarkChains is the part of `make bench` with all chains side by side.
func BenchmarkChains(b *testing.B) {
	lab.NeedRoot(b)
	kinds, err := chooseChains(*chainsFlag)
	if err != nil {
		b.Fatal(err)
	}
	tb, s := interruptible(b), newSamples(b)
	program := lab.Program(b)
	missing := measure(tb, candidates(tb, kinds, program, ""), loadOf(*pingsFlag, *echoFlag, *streamFlag), *roundsFlag, false, s)
	finish(b, s, func(w io.Writer) {
		chainTable(w, s, kinds, missing)
		targetTable(w, s)
		if size, err := os.Stat(program); err == nil {
			fmt.Fprintf(w, "\nthe program has %.1f MB (target: at most 18)\n", float64(size.Size())/1e6)
		}
	})
}

// finish prints the tables on standard output.
func finish(b *testing.B, s *samples, print func(w io.Writer)) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // means nothing here
	fmt.Println()
	print(os.Stdout)
	if s.err != nil {
		b.Error(s.err)
	}
}

// TestSmoke runs the whole harness once: one tiny round of two chains.
func TestSmoke(t *testing.T) {
	lab.NeedRoot(t)
	kinds, err := chooseChains(chainPTY + "," + chainTunnel)
	if err != nil {
		t.Fatal(err)
	}
	var file, table strings.Builder
	s := &samples{out: &file}
	measure(t, candidates(t, kinds, lab.Program(t), ""), load{pings: 20, echo: payload(100_000), stream: payload(200_000)}, 1, false, s)
	for _, name := range []string{chainPTY, chainTunnel} {
		for _, m := range []string{"rt1_p50", "rt16_p90", "rt256_p99", "echo", "stream"} {
			if v, ok := s.median(name, m); !ok || v <= 0 {
				t.Errorf("%s of %s is %v", m, name, v)
			}
		}
	}
	for _, m := range []string{"cpu_per_1000_rt_16", "cpu_per_MB_stream", "rss_idle", "rss_after_largest"} {
		if v, ok := s.median(chainTunnel, m); !ok || v <= 0 {
			t.Errorf("%s of the tunnel is %v", m, v)
		}
	}
	if r, ok := s.ratio(chainTunnel, chainPTY, "rt16_p50"); !ok || r <= 1 {
		t.Errorf("a round trip through the tunnel is %v times one of the PTY alone", r)
	}
	again := 0
	for line := range strings.Lines(file.String()) {
		var one sample
		if err := json.Unmarshal([]byte(line), &one); err != nil || one != s.all[again] {
			t.Errorf("line %q is read as %+v, %v", line, one, err)
		}
		again++
	}
	if again != len(s.all) {
		t.Errorf("the file has %d lines for %d samples", again, len(s.all))
	}
	chainTable(&table, s, kinds, nil)
	if !strings.Contains(table.String(), kinds[1].title) {
		t.Errorf("the table has no line for the tunnel:\n%s", table.String())
	}
	t.Log("\n" + table.String())
}
