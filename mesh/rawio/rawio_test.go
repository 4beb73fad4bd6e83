package rawio_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/rawio"
)

func TestReadWrite(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := uintptr(p[0]), uintptr(p[1])
	defer unix.Close(p[0])
	buf := make([]byte, 10)
	if n, err := rawio.Read(r, buf); n != 0 || err != unix.EAGAIN {
		t.Errorf("read of an empty pipe: %d, %v; want EAGAIN", n, err)
	}
	if n, err := rawio.Write(w, []byte("four")); n != 4 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	if n, err := rawio.Read(r, buf); string(buf[:n]) != "four" || err != nil {
		t.Errorf("read %q, %v; want four", buf[:n], err)
	}
	if n, err := rawio.Read(r, nil); n != 0 || err != nil {
		t.Errorf("read into nothing: %d, %v; want 0 and no error", n, err)
	}
	full := make([]byte, 1<<20)
	if n, err := rawio.Write(w, full); n <= 0 || n >= len(full) || err != nil {
		t.Errorf("write of more than fits: %d, %v; want what fitted", n, err)
	}
	if n, err := rawio.Write(w, full); n != 0 || err != unix.EAGAIN {
		t.Errorf("write to a full pipe: %d, %v; want EAGAIN", n, err)
	}
	if err := unix.Close(p[1]); err != nil {
		t.Fatal(err)
	}
	if n, err := rawio.Write(w, full); n != 0 || !errors.Is(err, unix.EBADF) {
		t.Errorf("write to a closed descriptor: %d, %v; want EBADF", n, err)
	}
}
