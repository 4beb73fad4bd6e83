package pathwatch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/pathwatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watching counts what is told of paths.
type watching struct {
	t     *testing.T
	told  chan struct{}
	ended chan error
}

func watch(t *testing.T, of pathwatch.Of, paths ...string) *watching {
	t.Helper()
	w := &watching{t: t, told: make(chan struct{}, 100), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { w.ended <- pathwatch.Watch(ctx, of, func() { w.told <- struct{}{} }, paths...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-w.ended; err != nil {
			t.Errorf("watch %q: %v", paths, err)
		}
	})
	w.once("the beginning")
	return w
}

// once waits until something is told; a step may be told several times.
func (w *watching) once(what string) {
	w.t.Helper()
	select {
	case <-w.told:
	case err := <-w.ended:
		w.ended <- nil
		w.t.Fatalf("watch ended at %s: %v", what, err)
	case <-time.After(10 * time.Second):
		w.t.Fatalf("%s was not told", what)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExistence: a tty that appears behind links and directories that are made
// on the way, as udev does it.
func TestExistence(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	w := watch(t, pathwatch.Existence, in("serial/by-id/stick"), in("other"))
	do(t, os.Mkdir(in("serial"), 0o700))
	w.once("a directory")
	do(t, os.Mkdir(in("serial/by-id"), 0o700))
	w.once("a directory in it")
	do(t, os.Symlink("../../tty0", in("serial/by-id/stick")))
	w.once("a link to nothing")
	do(t, os.WriteFile(in("tty0"), nil, 0o600))
	w.once("what the link leads to")
	do(t, os.Chmod(in("tty0"), 0o640))
	w.once("who may open it")
	do(t, os.Rename(in("tty0"), in("tty1")))
	w.once("that it is away")
	do(t, os.Remove(in("serial/by-id/stick")))
	w.once("that the link is away")
	do(t, os.WriteFile(in("other"), nil, 0o600))
	w.once("the other path")
}

// TestPTY: a PTY has no event of the kernel's device model, but a name.
func TestPTY(t *testing.T) {
	link := filepath.Join(t.TempDir(), "stick")
	w := watch(t, pathwatch.Existence, link)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	do(t, err)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", master.Fd()))
	do(t, err)
	_, index, ok := strings.Cut(string(info), "tty-index:")
	if !ok {
		t.Fatalf("PTY without an index: %q", info)
	}
	do(t, os.Symlink("/dev/pts/"+strings.TrimSpace(index), link))
	w.once("the link to a PTY")
	do(t, master.Close())
	w.once("the end of the PTY")
}

// TestWhatIsWritten is told to who wants it, and to nobody else: a tty would
// tell of each byte.
func TestWhatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	do(t, os.WriteFile(path, []byte("1"), 0o600))
	existence, contents := watch(t, pathwatch.Existence, path), watch(t, pathwatch.Contents, path)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	do(t, err)
	const writes = 50
	for range writes {
		_, err = file.WriteString("2")
		do(t, err)
		contents.once("a write")
	}
	do(t, file.Close())
	do(t, os.WriteFile(path+"2", nil, 0o600)) // beside it
	do(t, os.Remove(path))
	existence.once("that it is away")
	if told := len(existence.told); told > writes/2 {
		t.Errorf("told of existence %d times more while only bytes changed", told)
	}
}

// TestSwap: Kubernetes swaps a link in the middle of the path.
func TestSwap(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	do(t, os.Mkdir(in("1"), 0o700))
	do(t, os.Mkdir(in("2"), 0o700))
	do(t, os.Symlink("1", in("data")))
	w := watch(t, pathwatch.Contents, in("data/config"))
	do(t, os.Symlink("2", in("new")))
	do(t, os.Rename(in("new"), in("data")))
	w.once("the swap")
	for range 20 { // more than the swap can have been told
		do(t, os.WriteFile(in("2/config"), []byte("new"), 0o600))
		w.once("the new file")
	}
	do(t, os.RemoveAll(in("2")))
	w.once("that it is away")
}
