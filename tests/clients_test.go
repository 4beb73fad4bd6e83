package tests

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// node returns a command that runs a script of tests/clients on the host.
func node(ctx context.Context, host *lab.Host, modules, script string, args ...string) *exec.Cmd {
	cmd := host.Command(ctx, "node", append([]string{filepath.Join("clients", script)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// nodeModules returns the node_modules folder with what tests/clients's lock
// file names. It installs it in the user's cache once per lock file.
func nodeModules(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("clients/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "serialspan-tests", fmt.Sprintf("clients-%x", sha256.Sum256(lock))[:20])
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules
	}
	// Made beside it and renamed: what is there under the name is whole.
	fresh, err := os.MkdirTemp(mustMakeDir(t, filepath.Dir(dir)), "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		text, err := os.ReadFile(filepath.Join("clients", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// The one install script would look for a compiler; the package has its
	// binding for Linux in it.
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts")
	cmd.Dir = fresh
	cmd.Env = os.Environ()
	// A node that is not Debian's own trusts only what was compiled into it,
	// not what the administrator of this machine trusts.
	const certificates = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(certificates); err == nil && os.Getenv("NODE_EXTRA_CA_CERTS") == "" {
		cmd.Env = append(cmd.Env, "NODE_EXTRA_CA_CERTS="+certificates)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return modules
}

func mustMakeDir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lockedBuffer holds what a running process has written.
type lockedBuffer struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

// String returns what was written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(slices.Clone(b.text))
}
