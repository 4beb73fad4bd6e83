package agent_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// What TestCuts does: cuts of 10 ms to 5 s, in houses of its own that run one
// after the other.
const (
	cutHouses   = 10
	cutsInHouse = 100
	shortestCut = 10 * time.Millisecond
	longestCut  = 5 * time.Second
	// resumeTarget is DESIGN section 8: resume after a broken path is back.
	resumeTarget = 200 * time.Millisecond
)

// traffic is one stream to an echoing device: a writer that never stops, at
// about the pace of 115,200 bit/s, and a reader that checks every byte.
type traffic struct {
	stream io.ReadWriteCloser
	mu     sync.Mutex
	moved  *sync.Cond
	sent   int
	back   int
	stop   bool
	failed error
}

// word returns the bytes of the stream from a position that 4 divides.
func word(at int) [4]byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(at/4)*2654435761)
	return b
}

func newTraffic(stream io.ReadWriteCloser) *traffic {
	c := &traffic{stream: stream}
	c.moved = sync.NewCond(&c.mu)
	return c
}

// write sends until it is stopped.
func (c *traffic) write() {
	chunk := make([]byte, 0, 256)
	for at := 0; ; {
		chunk = chunk[:0]
		for range 1 + rand.IntN(50) {
			b := word(at)
			chunk = append(chunk, b[:]...)
			at += len(b)
		}
		c.mu.Lock()
		if c.stop || c.failed != nil {
			c.mu.Unlock()
			return
		}
		c.sent = at
		c.mu.Unlock()
		if _, err := c.stream.Write(chunk); err != nil {
			c.fail(fmt.Errorf("write at %d: %w", at, err))
			return
		}
		time.Sleep(time.Duration(5+rand.IntN(10)) * time.Millisecond)
	}
}

// read checks what comes back until all that was sent is there.
func (c *traffic) read() {
	buf := make([]byte, 4096)
	for {
		c.mu.Lock()
		done := c.failed != nil || c.stop && c.back == c.sent
		at := c.back
		c.mu.Unlock()
		if done {
			return
		}
		n, err := c.stream.Read(buf)
		for i, b := range buf[:n] {
			if w := word((at + i) &^ 3); b != w[(at+i)&3] {
				c.fail(fmt.Errorf("the byte at %d came back wrong", at+i))
				return
			}
		}
		c.mu.Lock()
		c.back += n
		c.moved.Broadcast()
		c.mu.Unlock()
		if err != nil {
			c.fail(fmt.Errorf("read at %d: %w", at, err))
			return
		}
	}
}

func (c *traffic) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
	c.moved.Broadcast()
}

func (c *traffic) counts() (sent, back int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent, c.back
}

// await blocks until more than n bytes are back, and returns the error that
// ended the traffic.
func (c *traffic) await(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.back <= n && c.failed == nil {
		c.moved.Wait()
	}
	return c.failed
}

// finish stops the writer and lets the last bytes come back.
func (c *traffic) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = true
}

// TestCuts cuts the path between the owner of a device and its consumer, again
// and again, with bytes on their way both ways: through the real sessions,
// QUIC, WireGuard and mesh not one may be lost, doubled or reordered. It says
// how long after the path is back the first byte was, and the last of those
// that had been written until then.
func TestCuts(t *testing.T) {
	houses := cutHouses
	if testing.Short() {
		houses = 1
	}
	var first, caught []time.Duration
	bytes := 0
	for i := range houses {
		seed := uint64(time.Now().UnixNano()) + uint64(i)
		if text := os.Getenv("SERIALSPAN_SEED"); text != "" {
			seed, _ = strconv.ParseUint(text, 10, 64)
		}
		synctest.Test(t, func(t *testing.T) {
			f, c, n := cutHouse(t, seed)
			first, caught, bytes = append(first, f...), append(caught, c...), bytes+n
		})
		if t.Failed() {
			t.Fatalf("SERIALSPAN_SEED=%d", seed)
		}
	}
	slices.Sort(first)
	slices.Sort(caught)
	rank := func(all []time.Duration, q float64) time.Duration { return all[int(q*float64(len(all)-1))] }
	t.Logf("%d cuts, %d bytes there and back: lost, doubled, reordered 0, 0, 0; first byte after the path is back: median %v, p99 %v, most %v; all caught up: median %v, p99 %v, most %v",
		len(first), bytes, rank(first, 0.5), rank(first, 0.99), first[len(first)-1], rank(caught, 0.5), rank(caught, 0.99), caught[len(caught)-1])
	if m := rank(first, 0.5); m > resumeTarget {
		t.Errorf("the first byte comes %v after the path is back, want %v", m, resumeTarget)
	}
}

func cutHouse(t *testing.T, seed uint64) (first, caught []time.Duration, n int) {
	random := rand.New(rand.NewPCG(seed, 0))
	h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond})
	edge := h.start(&node{name: "edge"})
	consumer := h.start(&node{name: "consumer", join: []string{edge.addr.String()}})
	h.net.WaitFor(5*time.Second, "the device at the consumer", consumer.resolves("edge-stick"))
	stream, err := consumer.Console(context.Background(), "edge-stick", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	c := newTraffic(stream)
	var running sync.WaitGroup
	running.Go(c.write)
	running.Go(c.read)
	one, other := []*meshtest.Node{{Addr: edge.addr}}, []*meshtest.Node{{Addr: consumer.addr}}
	for range cutsInHouse {
		time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
		h.net.Cut(one, other)
		time.Sleep(shortestCut + time.Duration(random.Int64N(int64(longestCut-shortestCut))))
		sent, back := c.counts()
		h.net.Heal(one, other)
		healed := time.Now()
		if err := c.await(back); err != nil {
			t.Fatal(err)
		}
		first = append(first, time.Since(healed))
		if err := c.await(sent - 1); err != nil {
			t.Fatal(err)
		}
		caught = append(caught, time.Since(healed))
	}
	c.finish()
	running.Wait()
	sent, back := c.counts()
	if c.failed != nil || sent != back {
		t.Fatalf("%d bytes sent, %d came back, %v", sent, back, c.failed)
	}
	_ = stream.Close()
	return first, caught, sent
}
