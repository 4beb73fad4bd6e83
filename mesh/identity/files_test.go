package identity_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

func load(t *testing.T, dir, machine string, want identity.Origin) *identity.Identity {
	t.Helper()
	id, origin, err := identity.Load(dir, machine)
	if err != nil {
		t.Fatal(err)
	}
	if origin != want {
		t.Fatalf("origin %d, want %d", origin, want)
	}
	return id
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLoadKeeps(t *testing.T) {
	for name, machines := range map[string][2]string{
		"same machine":             {"m1", "m1"},
		"line break in the id":     {"m1", "m1\n"},
		"no machine id":            {"", ""},
		"machine id came later":    {"", "m1"},
		"machine id went away":     {"m1", ""},
		"machine id of line break": {"m1", "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first := load(t, dir, machines[0], identity.Created)
			if again := load(t, dir, machines[1], identity.Kept); again.ID() != first.ID() || !again.Private().Equal(first.Private()) {
				t.Error("another identity")
			}
		})
	}
}

func TestIdentityFile(t *testing.T) {
	dir := t.TempDir()
	load(t, dir, "0123456789abcdef", identity.Created)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "identity" {
		t.Fatalf("files %v, %v; want the identity only", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if bytes.Contains(read(t, filepath.Join(dir, "identity")), []byte("0123456789abcdef")) {
		t.Error("the machine id itself is in the file")
	}
}

// TestCopiedStateDirectory: two machines must never be one member.
func TestCopiedStateDirectory(t *testing.T) {
	home, copied := t.TempDir(), t.TempDir()
	first := load(t, home, "m1", identity.Created)
	original := read(t, filepath.Join(home, "identity"))
	if err := os.WriteFile(filepath.Join(copied, "identity"), original, 0o600); err != nil {
		t.Fatal(err)
	}
	second := load(t, copied, "m2", identity.Replaced)
	if second.ID() == first.ID() {
		t.Fatal("the copy has the same identity")
	}
	if aside := read(t, filepath.Join(copied, "identity.from-another-machine")); !bytes.Equal(aside, original) {
		t.Error("the old key was not set aside")
	}
	if again := load(t, copied, "m2", identity.Kept); again.ID() != second.ID() {
		t.Error("the new identity is not kept")
	}
	if again := load(t, home, "m1", identity.Kept); again.ID() != first.ID() {
		t.Error("the original changed")
	}
	// Copied once more, from the copy.
	if third := load(t, copied, "m3", identity.Replaced); third.ID() == second.ID() || third.ID() == first.ID() {
		t.Error("the copy of the copy has an identity of before")
	}
}

func TestLoadRefuses(t *testing.T) {
	seed := strings.Repeat("ab", 32)
	for name, row := range map[string]struct {
		text string
		mode fs.FileMode
		want error
	}{
		"readable by the group": {"seed " + seed, 0o640, identity.ErrExposed},
		"readable by all":       {"seed " + seed, 0o604, identity.ErrExposed},
		"writable by others":    {"seed " + seed, 0o602, identity.ErrExposed},
		"empty":                 {"", 0o600, nil},
		"comment only":          {"# seed " + seed, 0o600, nil},
		"short seed":            {"seed " + seed[2:], 0o600, nil},
		"seed not hexadecimal":  {"seed " + strings.Repeat("xy", 32), 0o600, nil},
		"seed without its word": {seed, 0o600, nil},
		"unknown word":          {"seed " + seed + "\nkey " + seed, 0o600, nil},
		"too long":              {strings.Repeat("#\n", 4000) + "seed " + seed, 0o600, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity")
			if err := os.WriteFile(path, []byte(row.text), row.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, row.mode); err != nil { // past the umask
				t.Fatal(err)
			}
			id, _, err := identity.Load(filepath.Dir(path), "m1")
			if err == nil || id != nil || row.want != nil && !errors.Is(err, row.want) {
				t.Fatalf("%v, want an error", err)
			}
			if strings.Contains(err.Error(), seed[:16]) {
				t.Errorf("the error quotes the seed: %v", err)
			}
			if !bytes.Equal(read(t, path), []byte(row.text)) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("no directory", func(t *testing.T) {
		if _, _, err := identity.Load(filepath.Join(t.TempDir(), "none"), ""); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want fs.ErrNotExist", err)
		}
	})
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "identity"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := identity.Load(dir, ""); err == nil {
			t.Error("no error")
		}
	})
	t.Run("a FIFO in its place", func(t *testing.T) { // must not wait for a writer
		dir := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(dir, "identity"), 0o600); err != nil {
			t.Skipf("make a FIFO: %v", err)
		}
		if _, _, err := identity.Load(dir, ""); err == nil {
			t.Error("no error")
		}
	})
}

func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.secret")
	s := newSecret(t)
	if err := identity.WriteSecretFile(path, s); err != nil {
		t.Fatal(err)
	}
	if got, err := identity.ReadSecretFile(path); err != nil || got != s {
		t.Fatalf("read back: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := identity.WriteSecretFile(path, newSecret(t)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v, want fs.ErrExist", err)
	}
	if got, err := identity.ReadSecretFile(path); err != nil || got != s {
		t.Error("the secret was replaced")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("temporary files stay: %v, %v", entries, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = identity.ReadSecretFile(path)
	if !errors.Is(err, identity.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 ") {
		t.Errorf("%v, want ErrExposed and what to do", err)
	}
	if _, err := identity.ReadSecretFile(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	bad := filepath.Join(t.TempDir(), "bad.secret")
	if err := os.WriteFile(bad, []byte(s.Text()[:80]), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = identity.ReadSecretFile(bad)
	if !errors.Is(err, identity.ErrSecret) || strings.Contains(err.Error(), s.Text()[10:30]) {
		t.Errorf("%v, want ErrSecret without the text", err)
	}
}
