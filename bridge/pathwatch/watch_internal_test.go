package pathwatch

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeighbours: what others write in a directory on the way, as to a log beside
// the configuration file, is not even told by the kernel.
func TestNeighbours(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	neighbour, err := os.Create(in("log"))
	if err := errors.Join(err, os.Mkdir(in("etc"), 0o700), os.WriteFile(in("etc/log"), nil, 0o600), os.WriteFile(in("etc/config"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	defer neighbour.Close()
	for of, name := range map[Of]string{Existence: "existence", Contents: "contents"} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			w := &watch{of: of, paths: []string{in("etc/config")}}
			if err := w.followOn(fd); err != nil {
				t.Fatal(err)
			}
			_, err = neighbour.WriteString("more\n")
			if err := errors.Join(err, os.WriteFile(in("etc/log"), []byte("more\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
			if n := writings(t, fd); n != 0 {
				t.Errorf("%d events of what the neighbours wrote", n)
			}
			if err := os.WriteFile(in("etc/config"), []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := writings(t, fd); n > 0 != (of == Contents) {
				t.Errorf("%d events of what was written to the file itself", n)
			}
		})
	}
}

// writings counts the events of something written. There are others: whoever uses
// the directories above makes them.
func writings(t *testing.T, fd int) (n int) {
	t.Helper()
	buf := make([]byte, 64<<10)
	size, err := unix.Read(fd, buf)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	for buf = buf[:max(size, 0)]; len(buf) > 0; {
		if binary.NativeEndian.Uint32(buf[4:])&(unix.IN_MODIFY|unix.IN_CLOSE_WRITE) != 0 {
			n++
		}
		buf = buf[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(buf[12:])):]
	}
	return n
}
