package pty

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrLinkTaken is wrapped when something that is not ours stands where the link
// shall be; it is left untouched.
var ErrLinkTaken = errors.New("something else stands there")

// Links: none there, it is made. A link into /dev/pts is one of ours, left by
// an earlier run or by the one before a restart, and is replaced. The number of
// the node it points to says nothing, since the kernel gives it out again.
// Everything else is refused.

// checkLink refuses early, before a terminal is made.
func checkLink(link string) error {
	if link == "" {
		return nil
	}
	if !filepath.IsAbs(link) {
		return fmt.Errorf("make link %q: the path must be absolute", link)
	}
	_, err := linkOfOurs(link)
	return err
}

// linkOfOurs tells whether a link into /dev/pts stands at path; false with a nil error: nothing does.
func linkOfOurs(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make link %q: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return false, fmt.Errorf("make link %q: %w: it is no symbolic link; move it away or choose another path", path, ErrLinkTaken)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return false, fmt.Errorf("make link %q: %w", path, err)
	}
	number, ok := strings.CutPrefix(target, ptsDir)
	if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
		return false, fmt.Errorf("make link %q: %w: it points to %q; remove it or choose another path", path, ErrLinkTaken, target)
	}
	return true, nil
}

// makeLink puts a link to node at link, at once and never over something that
// is not ours.
func makeLink(link, node string) error {
	if link == "" {
		return nil
	}
	replace, err := linkOfOurs(link)
	if err != nil {
		return err
	}
	if !replace {
		if err := os.Symlink(node, link); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make link %q: %w", link, ErrLinkTaken)
			}
			return fmt.Errorf("make link %q: %w", link, err)
		}
		return nil
	}
	if target, err := os.Readlink(link); err == nil && target == node {
		return nil // an adopted terminal's: its path was never gone
	}
	swap := filepath.Join(filepath.Dir(link), "."+filepath.Base(link)+"."+rand.Text())
	if err := os.Symlink(node, swap); err != nil {
		return fmt.Errorf("make link %q: %w", link, err)
	}
	if err := os.Rename(swap, link); err != nil {
		return errors.Join(fmt.Errorf("make link %q: %w", link, err), os.Remove(swap))
	}
	return nil
}

// removeLink removes the link if it still points to node.
func removeLink(link, node string) error {
	if link == "" {
		return nil
	}
	if target, err := os.Readlink(link); err != nil || target != node {
		return nil // gone or somebody else's: not ours to remove
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove link %q: %w", link, err)
	}
	return nil
}
