package slot_test

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/internal/slot"
)

// take reads what the device has got so far.
func take(t *testing.T, p *bridgetest.Port) string {
	t.Helper()
	synctest.Wait()
	b := make([]byte, p.ToDevice.Len())
	if len(b) == 0 {
		return ""
	}
	n, err := p.ToDevice.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestWriteWaits: who writes to an empty slot waits for a port, and goes on at the
// next where the last took no more.
func TestWriteWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slot.New()
		w := s.NewWriter()
		if n := w.TryWrite([]byte("one")); n != 0 {
			t.Errorf("%d bytes went nowhere", n)
		}
		written := make(chan error, 1)
		go func() {
			_, err := w.Write([]byte("one"))
			written <- err
		}()
		synctest.Wait()
		port := bridgetest.NewPort()
		s.Put(port, func() { t.Error("the port was lost") })
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if have := take(t, port); have != "one" {
			t.Errorf("the device got %q", have)
		}
		s.Take()
		if s.Current() != nil || s.IsDead() {
			t.Error("a port in an empty slot")
		}
		w.SetDeadline(time.Now().Add(time.Second))
		began := time.Now()
		if n, err := w.Write([]byte("two")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%d, %v after %v; want the deadline after 1s", n, err, time.Since(began))
		}
		_ = port.Close()
	})
}

// TestTurns: a write is not cut by another's, and then it is the turn of who waits.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slot.New()
		port := bridgetest.NewPort()
		s.Put(port, func() {})
		fill := make([]byte, 4096)
		a, b := s.NewWriter(), s.NewWriter()
		if n := a.TryWrite(append(fill, "rest"...)); n != len(fill) {
			t.Fatalf("the driver took %d bytes", n)
		}
		take(t, port)
		if n := b.TryWrite([]byte("b")); n != 0 {
			t.Error("b wrote into what a had begun")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = b.Write([]byte("b"))
		}()
		synctest.Wait()
		if n := a.TryWrite([]byte("rest")); n != 4 {
			t.Error("a could not go on")
		}
		a.Yield()
		<-done
		if have := take(t, port); have != "restb" {
			t.Errorf("the device got %q", have)
		}
		b.Leave()
		if n := a.TryWrite([]byte("a")); n != 1 {
			t.Error("nobody waits, and a may not write")
		}
		s.Take()
		_ = port.Close()
	})
}

// TestDoubt: what a driver had taken and may not have sent when its port was lost
// is counted, once.
func TestDoubt(t *testing.T) {
	for _, test := range []struct {
		name  string
		waits time.Duration
		want  uint64
	}{
		{"just written", 0, 5},
		{"sent two ticks ago", 600 * time.Millisecond, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slot.New()
				port := bridgetest.NewPort()
				s.Put(port, func() {})
				w := s.NewWriter()
				if n := w.TryWrite([]byte("bytes")); n != 5 {
					t.Fatal(n)
				}
				take(t, port)
				time.Sleep(test.waits)
				s.Take()
				if have := s.Doubt(); have != test.want {
					t.Errorf("%d bytes in doubt, want %d", have, test.want)
				}
				if again := s.Doubt(); again != 0 {
					t.Errorf("%d bytes in doubt again", again)
				}
				_ = port.Close()
			})
		})
	}
}
