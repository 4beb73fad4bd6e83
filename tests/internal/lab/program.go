package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Root returns the folder of the repository.
func Root(tb testing.TB) string {
	tb.Helper()
	root, err := findRoot()
	if err != nil {
		tb.Fatalf("find the repository: %v", err)
	}
	return root
}

func findRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(string(out)), err
}

var build = sync.OnceValues(func() ([]byte, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	return exec.Command("make", "--no-print-directory", "-C", root, "build").CombinedOutput()
})

// Program returns the path of bin/serialspan, built by `make build` once in
// each test process, so that a test never runs yesterday's program.
func Program(tb testing.TB) string {
	tb.Helper()
	if out, err := build(); err != nil {
		tb.Fatalf("make build: %v\n%s", err, out)
	}
	path := filepath.Join(Root(tb), "bin", "serialspan")
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("make build left no program: %v", err)
	}
	return path
}
