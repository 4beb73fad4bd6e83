package lab

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// exchangeTime bounds one Exchange.
const exchangeTime = 60 * time.Second

// End is one end of a byte stream: a tty, a connection.
type End interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// Exchange sends size bytes from a to b and others from b to a at the same
// time: every byte value equally often, in random order. It fails the test
// where what arrives is not exactly that. size is a multiple of 256.
func Exchange(tb testing.TB, a, b End, size int) {
	tb.Helper()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	there, back := shuffled(random, size), shuffled(random, size)
	deadline := time.Now().Add(exchangeTime)
	for _, end := range []End{a, b} {
		if err := end.SetDeadline(deadline); err != nil {
			tb.Fatalf("set deadline: %v", err)
		}
	}
	start := time.Now()
	errs := make([]error, 4)
	var all sync.WaitGroup
	all.Go(func() { errs[0] = send("there", a, there) })
	all.Go(func() { errs[1] = send("back", b, back) })
	all.Go(func() { errs[2] = receive("there", b, there) })
	all.Go(func() { errs[3] = receive("back", a, back) })
	all.Wait()
	for _, err := range errs {
		if err != nil {
			tb.Errorf("seed %d: %v", seed, err)
		}
	}
	if tb.Failed() {
		tb.FailNow()
	}
	tb.Logf("%d bytes each way in %v", size, time.Since(start).Round(time.Millisecond))
}

func shuffled(random *rand.Rand, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i)
	}
	random.Shuffle(size, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

func send(way string, w io.Writer, p []byte) error {
	if n, err := w.Write(p); err != nil {
		return fmt.Errorf("send %s: after %d of %d bytes: %w", way, n, len(p), err)
	}
	return nil
}

// receive compares as bytes come, so that the first wrong one is told at once.
func receive(way string, r io.Reader, want []byte) error {
	got := 0
	for buffer := make([]byte, 4096); got < len(want); {
		n, err := r.Read(buffer)
		if got+n > len(want) {
			return fmt.Errorf("receive %s: %d bytes too many", way, got+n-len(want))
		}
		if expected := want[got : got+n]; !bytes.Equal(buffer[:n], expected) {
			i := 0
			for buffer[i] == expected[i] {
				i++
			}
			return fmt.Errorf("receive %s: byte %d is %#02x, want %#02x", way, got+i, buffer[i], expected[i])
		}
		got += n
		if err != nil && got < len(want) {
			return fmt.Errorf("receive %s: after %d of %d bytes: %w", way, got, len(want), err)
		}
	}
	return nil
}
