package rawio_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/rawio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns two ends of a datagram socket, the first as a File.
func pair(t *testing.T) (*rawio.File, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := rawio.NewFile(fds[0], "socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		unix.Close(fds[1])
	})
	return f, fds[1]
}

// A reader is not woken when the other side takes what we have sent.
func TestReadersWaitForDataOnly(t *testing.T) {
	f, peer := pair(t)
	const rounds = 200
	asked, parked := 0, make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 16)
		for range rounds {
			err := f.Read(func(fd uintptr) bool {
				asked++
				n, err := rawio.Read(fd, buf)
				if err == unix.EAGAIN {
					parked <- struct{}{}
					return false
				}
				return n == 4
			})
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	buf := make([]byte, 16)
	for range rounds {
		select {
		case <-parked:
		case err := <-done:
			t.Fatalf("reader ended early: %v", err)
		}
		for range 3 {
			if err := f.Control(func(fd uintptr) { rawio.Write(fd, []byte("out")) }); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(peer, buf); n != 3 || err != nil {
				t.Fatal(n, err)
			}
		}
		if _, err := unix.Write(peer, []byte("data")); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if asked != 2*rounds {
		t.Errorf("%d reads for %d datagrams; want %d: one that finds nothing and one that finds it", asked, rounds, 2*rounds)
	}
}

func TestWriteWaitsForRoom(t *testing.T) {
	f, peer := pair(t)
	fill := func() {
		if err := f.Control(func(fd uintptr) {
			for err := error(nil); err == nil; {
				_, err = rawio.Write(fd, []byte("x"))
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	write := func() error {
		return f.Write(func(fd uintptr) bool {
			_, err := rawio.Write(fd, []byte("y"))
			return err == nil
		})
	}
	for range 2 { // a second wait arms the same instance again
		fill()
		if err := f.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := write(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write without room past the deadline: %v", err)
		}
		if err := f.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- write() }()
		// The kernel tells of room when three quarters are free.
		buf := make([]byte, 16)
		for n := 1; n > 0; {
			n, _, _ = unix.Recvfrom(peer, buf, unix.MSG_DONTWAIT)
		}
		if err := <-done; err != nil {
			t.Fatalf("write after room was made: %v", err)
		}
	}
}

func TestCloseEndsWaiters(t *testing.T) {
	f, _ := pair(t)
	if err := f.Control(func(fd uintptr) {
		for err := error(nil); err == nil; {
			_, err = rawio.Write(fd, []byte("x"))
		}
	}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	parked := make(chan struct{}, 2)
	never := func(uintptr) bool {
		select {
		case parked <- struct{}{}:
		default:
		}
		return false
	}
	go func() { ended <- f.Read(never) }()
	<-parked
	go func() { ended <- f.Write(never) }()
	<-parked
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiter got %v; want ErrClosed", err)
		}
	}
	for name, err := range map[string]error{
		"Close":            f.Close(),
		"Control":          f.Control(func(uintptr) { t.Error("Control ran after Close") }),
		"Read":             f.Read(never),
		"Write":            f.Write(never),
		"SetReadDeadline":  f.SetReadDeadline(time.Now()),
		"SetWriteDeadline": f.SetWriteDeadline(time.Now()),
	} {
		if name == "Close" && err != nil || name != "Close" && !errors.Is(err, rawio.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestReadDeadline(t *testing.T) {
	f, _ := pair(t)
	if err := f.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := f.Read(func(uintptr) bool { return false }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past the deadline: %v", err)
	}
}

func TestWaitingAllocatesNothing(t *testing.T) {
	f, peer := pair(t)
	buf := make([]byte, 16)
	read := func(fd uintptr) bool {
		_, err := rawio.Read(fd, buf)
		return err == nil
	}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(peer, buf)
		_ = f.Read(read)
	}); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}
