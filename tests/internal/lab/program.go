package lab

import (
	"fmt"
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

var buildForTUN = sync.OnceValues(func() (path string, err error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	path = filepath.Join(root, "bin", "serialspan-tun")
	cmd := exec.Command("go", "build", "-o", path, "-ldflags", "-X github.com/serialspan/serialspan/mesh/kubespan.wireGuardKind=tun", "./cmd/serialspan")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", path, err, out)
	}
	return path, nil
})

// tunProgram returns the path of a program that takes a TUN named kubespan for
// a WireGuard link.
func tunProgram(tb testing.TB) string {
	tb.Helper()
	path, err := buildForTUN()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

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
