package session_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/session"
)

// connectedPair returns two connected ends of a session.
func connectedPair(tb testing.TB) (one, other *session.End) {
	tb.Helper()
	one, other = session.NewEnd(0), session.NewEnd(0)
	if err := errors.Join(one.Connect(0, 0, session.DefaultWindow), other.Connect(0, 0, session.DefaultWindow)); err != nil {
		tb.Fatal(err)
	}
	return one, other
}

// dataFrame returns a DATA frame of size bytes as a peer would write it.
func dataFrame(tb testing.TB, size int) []byte {
	tb.Helper()
	a, _ := connectedPair(tb)
	if n := a.Write(0, make([]byte, size)); n != size {
		tb.Fatalf("%d of %d bytes written", n, size)
	}
	return a.Output(0, nil)
}

// BenchmarkDecode reads one DATA frame.
func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{16, 256, 16384} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			wire := dataFrame(b, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, n, err := session.Decode(wire); n == 0 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkExchange sends so many bytes from each end to the other: written,
// framed, decoded, taken, delivered and acknowledged.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{16, 256, 16384} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			one, other := connectedPair(b)
			data, wire := make([]byte, size), make([]byte, 0, 2*session.MaxFrame)
			var now time.Duration
			b.ReportAllocs()
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				now += time.Millisecond
				if one.Write(now, data) != size || other.Write(now, data) != size {
					b.Fatal("no room")
				}
				wire = hand(b, now, one, other, wire)
				wire = hand(b, now, other, one, wire)
			}
		})
	}
}

// hand gives what one end has to write to the other, which delivers it. It
// returns wire, which it used as a buffer.
func hand(tb testing.TB, now time.Duration, from, to *session.End, wire []byte) []byte {
	wire = from.Output(now, wire[:0])
	for rest := wire; len(rest) > 0; {
		f, n, err := session.Decode(rest)
		if err != nil || n == 0 {
			tb.Fatal(n, err)
		}
		event, err := to.Input(now, f)
		if err != nil {
			tb.Fatal(err)
		}
		to.Delivered(now, len(event.Data))
		rest = rest[n:]
	}
	return wire
}
