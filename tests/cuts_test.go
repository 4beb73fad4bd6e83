package tests

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

const (
	cuts        = 40
	cutShortest = 10 * time.Millisecond
	cutLongest  = 5 * time.Second
	// cutBytes go each way while the cuts happen: 100 MB together.
	cutBytes = 50_000_000
	// resumeBudget is DESIGN section 8's, for the median.
	resumeBudget = 200 * time.Millisecond
)

// TestCuts breaks the network under a two-way transfer forty times: no byte is
// lost, doubled or reordered, and data flows again soon after each.
//
// The lengths are spread evenly over the logarithms from 10 ms to 5 s, so that
// all forty together last 33 s whatever the seed is: one length is drawn from
// each fortieth of that range, and their order is random. So is whose network
// breaks, the edge's or the consumer's, and how. The bytes are released in parts,
// one when each cut begins, so that both directions have something to send in
// every cut.
func TestCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	device := lab.NewTTY(t)
	c := newThreeHosts(t, "garage-stick", device.Path)
	link := c.attachPTY(t, "garage-stick")
	pts, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	app := lab.OpenTTY(t, link)
	c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	before := sessionOf(t, c.consumer.Client(), "garage-stick")

	there, back := lab.NewStream("to the device", seed, cutBytes), lab.NewStream("to the application", seed+1, cutBytes)
	transfer := startTransfer(t, app, device, there, back)
	var menders []mended
	for k, length := range cutLengths(random) {
		part := cutBytes / (cuts + 1)
		transfer.await(t, k*part+part/2)
		transfer.release()
		host := c.network.Host([]string{"edge", "consumer"}[random.IntN(2)])
		way := []lab.Cut{lab.Drop, lab.Unplug}[random.IntN(2)]
		at := c.network.CutOff(t, host, way, length)
		menders = append(menders, mended{what: fmt.Sprintf("%s %s for %v", host.Name, way, length.Round(time.Millisecond)), at: at})
	}
	transfer.end(t)

	c.wantCounted(t, link, cutBytes)
	wantLink(t, link, pts)
	after := sessionOf(t, c.consumer.Client(), "garage-stick")
	if after.ID != before.ID || after.Gaps != 0 || after.Lost != 0 {
		t.Errorf("the session is %+v, it was %+v", after, before)
	}
	reportResumes(t, menders, after.Resumed, there, back)
}

// cutLengths returns how long each cut is.
func cutLengths(random *rand.Rand) []time.Duration {
	lengths := make([]time.Duration, cuts)
	span := math.Log(float64(cutLongest) / float64(cutShortest))
	for i := range lengths {
		lengths[i] = time.Duration(float64(cutShortest) * math.Exp(span*(float64(i)+random.Float64())/cuts))
	}
	random.Shuffle(cuts, func(i, j int) { lengths[i], lengths[j] = lengths[j], lengths[i] })
	return lengths
}

// transfer is two streams between an application and a device.
type transfer struct {
	streams  []*lab.Stream
	released []chan struct{}
	ends     []lab.End
	all      sync.WaitGroup
	once     sync.Once
	failed   chan struct{} // closed after err is set
	err      error         // the first
}

// startTransfer starts with the first part of each stream.
func startTransfer(t *testing.T, app, device lab.End, there, back *lab.Stream) *transfer {
	t.Helper()
	x := &transfer{ends: []lab.End{app, device}, streams: []*lab.Stream{there, back}, failed: make(chan struct{})}
	deadline := time.Now().Add(5 * time.Minute)
	for _, end := range x.ends {
		if err := end.SetDeadline(deadline); err != nil {
			t.Fatalf("set deadline: %v", err)
		}
	}
	for i, ends := range [][2]lab.End{{app, device}, {device, app}} {
		released := make(chan struct{}, cuts+1)
		x.released = append(x.released, released)
		x.run(func() error { return x.streams[i].Send(ends[0], cuts+1, released) })
		x.run(func() error { return x.streams[i].Receive(ends[1]) })
	}
	t.Cleanup(func() { // of a test that has failed
		for _, r := range x.released {
			close(r)
		}
		x.stop()
		x.all.Wait()
	})
	x.release()
	return x
}

func (x *transfer) run(f func() error) {
	x.all.Go(func() {
		err := f()
		if err == nil {
			return
		}
		x.once.Do(func() {
			x.err = err
			close(x.failed)
		})
		x.stop()
	})
}

// stop ends reads and writes.
func (x *transfer) stop() {
	for _, end := range x.ends {
		_ = end.SetDeadline(time.Unix(1, 0))
	}
}

// release lets both directions send one part more.
func (x *transfer) release() {
	for _, r := range x.released {
		r <- struct{}{}
	}
}

// await waits until each direction has received so many bytes, or one failed.
func (x *transfer) await(t *testing.T, bytes int) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("%d bytes each way", bytes), time.Minute, func() error {
		select {
		case <-x.failed:
			t.Fatal(x.err)
		default:
		}
		if a, b := x.streams[0].Total(), x.streams[1].Total(); min(a, b) < bytes {
			return fmt.Errorf("%d and %d bytes have come", a, b)
		}
		return nil
	})
}

// end waits for the end of the transfer and fails the test unless every byte
// came.
func (x *transfer) end(t *testing.T) {
	t.Helper()
	x.all.Wait()
	if x.err != nil {
		t.Fatal(x.err)
	}
}

// mended is the end of a cut.
type mended struct {
	what string
	at   time.Time // when the mending began
}

// stalled is how long nothing must have come before the end of a cut, for what
// comes afterwards to have come over the mended network.
const stalled = 30 * time.Millisecond

// reportResumes logs how long after the end of a cut each direction flowed
// again, and fails the test if the median is above the budget. Cuts so short
// that a direction went on until their end are counted only.
func reportResumes(t *testing.T, cuts []mended, resumed int, streams ...*lab.Stream) {
	t.Helper()
	var waits []time.Duration
	for _, cut := range cuts {
		for _, s := range streams {
			arrivals := s.Arrivals()
			next := slices.IndexFunc(arrivals, func(a lab.Arrival) bool { return a.At.After(cut.at) })
			if next <= 0 || cut.at.Sub(arrivals[next-1].At) < stalled {
				continue
			}
			wait := arrivals[next].At.Sub(cut.at)
			waits = append(waits, wait)
			if wait > resumeBudget {
				t.Logf("%s: %v until data flowed again", cut.what, wait.Round(time.Millisecond))
			}
		}
	}
	median := quantile(waits, 0.5)
	t.Logf("%d cuts, %d of %d directions had stalled, %d resumes; from the end of the cut to the first byte: median %v, p99 %v, worst %v",
		len(cuts), len(waits), len(cuts)*len(streams), resumed, median, quantile(waits, 0.99), slices.Max(waits).Round(time.Microsecond))
	if median > resumeBudget {
		t.Errorf("data flowed again %v after the end of a cut in the median, want at most %v", median, resumeBudget)
	}
}

func quantile(samples []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Microsecond)
}
