package pathwatch

import (
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
			if n, err := unix.Read(fd, make([]byte, 4096)); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("%d bytes of events, %v", n, err)
			}
			if of == Existence {
				return
			}
			if err := os.WriteFile(in("etc/config"), []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(fd, make([]byte, 4096)); n < unix.SizeofInotifyEvent || err != nil {
				t.Errorf("%d bytes of events of the file itself, %v", n, err)
			}
		})
	}
}
