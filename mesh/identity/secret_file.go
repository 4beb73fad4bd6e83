package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ReadSecretFile reads a cluster secret from a file that only its owner can
// read; the error wraps ErrExposed where others can.
func ReadSecretFile(path string) (Secret, error) {
	data, err := readPrivate(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read cluster secret %q: %w", path, err)
	}
	s, err := ParseSecret(string(data))
	if err != nil {
		return Secret{}, fmt.Errorf("read cluster secret %q: %w", path, err)
	}
	return s, nil
}

// WriteSecretFile writes a cluster secret to a new file of mode 0600. It never
// replaces a file: the error then wraps fs.ErrExist.
func WriteSecretFile(path string, s Secret) error {
	if err := writePrivate(path, []byte(s.Text()+"\n")); err != nil {
		return fmt.Errorf("write cluster secret %q: %w", path, err)
	}
	return nil
}

// PreviousSuffix is what ReplaceSecretFile adds to the name under which it keeps
// the secret from before.
const PreviousSuffix = ".previous"

// ReplaceSecretFile puts another secret into the file of a cluster secret, whole
// or not at all, and keeps the one from before beside it (PreviousSuffix): after
// a failure or a loss of power one of the two is there under path. Owner and
// group stay. Where path is a symbolic link, the file that it leads to is
// replaced. The file need not exist.
func ReplaceSecretFile(path string, s Secret) error {
	if err := replaceSecretFile(path, s); err != nil {
		return fmt.Errorf("replace cluster secret %q: %w", path, err)
	}
	return nil
}

func replaceSecretFile(path string, s Secret) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return writePrivate(path, []byte(s.Text()+"\n"))
	}
	dir := filepath.Dir(target)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(target)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(s.Text() + "\n")
	if err == nil {
		err = keepOwner(tmp, target)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	previous := target + PreviousSuffix
	if err := os.Remove(previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(target, previous); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), target); err != nil {
		return err
	}
	return syncDir(dir)
}

// keepOwner gives a new file the owner of the one that it will replace.
func keepOwner(f *os.File, old string) error {
	info, err := os.Stat(old)
	if err != nil {
		return err
	}
	if was, ok := info.Sys().(*syscall.Stat_t); ok && int(was.Uid) != os.Geteuid() {
		return f.Chown(int(was.Uid), int(was.Gid))
	}
	return nil
}
