package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrExposed is wrapped by the error for a key or secret file that others can
// read.
var ErrExposed = errors.New("others can read it")

// maxPrivateFile bounds what is read of a key or secret file.
const maxPrivateFile = 4096

// readPrivate reads a small file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	// Not blocking: opening a FIFO would otherwise wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode %#o: %w; run: chmod 600 %s", info.Mode().Perm(), ErrExposed, path)
	case info.Size() > maxPrivateFile:
		return nil, fmt.Errorf("%d bytes, want at most %d", info.Size(), maxPrivateFile)
	}
	buf := make([]byte, info.Size())
	n, err := readFull(f, buf)
	return buf[:n], err
}

func readFull(f *os.File, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := f.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// writePrivate writes a new file of mode 0600 whole or not at all, and durably:
// temporary file, fsync, link, fsync of the directory. It fails with
// fs.ErrExist rather than replace a file.
func writePrivate(path string, data []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	// link fails on an existing name, rename would replace it.
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
