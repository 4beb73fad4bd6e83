package pty_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/internal/pty"
)

func TestLink(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(path string) error
		refused bool
	}{
		{"nothing there", func(string) error { return nil }, false},
		{"dangling link of an earlier run", func(path string) error { return os.Symlink("/dev/pts/999999", path) }, false},
		{"link of an earlier run to a number in use again", func(path string) error { return os.Symlink("/dev/pts/0", path) }, false},
		{"file", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }, true},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, true},
		{"foreign link", func(path string) error { return os.Symlink("/dev/null", path) }, true},
		{"foreign dangling link", func(path string) error { return os.Symlink("/dev/ttyUSB99", path) }, true},
		{"link to ptmx", func(path string) error { return os.Symlink("/dev/pts/ptmx", path) }, true},
		{"link beyond /dev/pts", func(path string) error { return os.Symlink("/dev/pts/../null", path) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			link := filepath.Join(dir, "ttyZWave")
			if err := tt.prepare(link); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(link)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			p, err := pty.Open(pty.Config{Link: link})
			if tt.refused {
				if !errors.Is(err, pty.ErrLinkTaken) {
					t.Fatalf("Open = %v, want ErrLinkTaken", err)
				}
				after, err := os.Lstat(link)
				if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
					t.Fatalf("what stood there was touched: %v, %v", after, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Path() != link {
				t.Errorf("Path = %q, want %q", p.Path(), link)
			}
			if target, err := os.Readlink(link); err != nil || target != p.Node() {
				t.Errorf("the link points to %q, %v, want %q", target, err, p.Node())
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("Close leaves %v, %v", left, err)
			}
		})
	}
}

func TestCloseLeavesAnothersLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "tty")
	first, err := pty.Open(pty.Config{Link: link})
	if err != nil {
		t.Fatal(err)
	}
	second, err := pty.Open(pty.Config{Link: link}) // a restarted agent, the old one still stopping
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(link); err != nil || target != second.Node() {
		t.Fatalf("the link points to %q, %v, want %q", target, err, second.Node())
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatalf("Close without the link = %v", err)
	}
}
