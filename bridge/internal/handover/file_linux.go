package handover

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Create makes memory for a record. name is shown in /proc/PID/fd.
func Create(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory for a record: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Write replaces the record in f.
func Write(f *os.File, r Record) error {
	b, err := Append(nil, r)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// Read reads the record in f. The error wraps ErrUnknown if there is none that
// can be read.
func Read(f *os.File) (Record, error) {
	info, err := f.Stat()
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	b := make([]byte, min(info.Size(), int64(headerSize+maxBody)))
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	return Parse(b[:n])
}
