package pathwatch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/pathwatch"
)

// asNobody names the directory of TestUnreadableDirectory in the environment of
// the process without root's rights in which it runs.
const asNobody = "PATHWATCH_UNREADABLE"

// TestUnreadableDirectory: a directory that may be entered and not listed, as
// /etc/serialspan may be. A tty behind it cannot be watched; that is said, and
// names the directory. A file behind it tells of itself, until it is away.
func TestUnreadableDirectory(t *testing.T) {
	dir := os.Getenv(asNobody)
	if dir == "" && os.Geteuid() == 0 {
		runAsNobody(t)
		return
	}
	if dir == "" {
		dir = t.TempDir()
	}
	closed := filepath.Join(dir, "closed")
	do(t, os.Mkdir(closed, 0o700))
	file := filepath.Join(closed, "file")
	do(t, os.WriteFile(file, nil, 0o600))
	do(t, os.Chmod(closed, 0o300))
	t.Cleanup(func() { do(t, os.Chmod(closed, 0o700)) })

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := pathwatch.Watch(ctx, pathwatch.Existence, func() { t.Error("told of what cannot be watched") }, file)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), closed) {
		t.Errorf("watch %s: %v; want that %s may not be read", file, err, closed)
	}
	below := filepath.Join(closed, "open", "file") // its own directory tells of it
	do(t, os.Mkdir(filepath.Dir(below), 0o700))
	inside := watch(t, pathwatch.Contents, below)
	do(t, os.WriteFile(below, []byte("new"), 0o600))
	inside.once("a file in a directory below")

	w := watch(t, pathwatch.Contents, file)
	do(t, os.WriteFile(file, []byte("new"), 0o600))
	w.once("what was written")
	do(t, os.WriteFile(file+".new", []byte("newer"), 0o600))
	do(t, os.Rename(file+".new", file))
	w.once("another file in its place")
	for range 20 { // more than that can have been told
		do(t, os.WriteFile(file, []byte("newest"), 0o600))
		w.once("what was written to that")
	}
	// Nothing would tell of its return: who watches has to look by itself.
	do(t, os.Rename(file, file+"~"))
	select {
	case err = <-w.ended:
		w.ended <- nil // for its cleanup
	case <-ctx.Done():
		t.Fatal("the watch of a file that went away goes on")
	}
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), closed) {
		t.Errorf("watch of a file that went away: %v; want that %s may not be read", err, closed)
	}
}

func runAsNobody(t *testing.T) {
	t.Helper()
	const nobody = 65534
	dir := t.TempDir()
	do(t, os.Chmod(filepath.Dir(dir), 0o755))
	do(t, os.Chown(dir, nobody, nobody))
	// By /proc: the directory of the test's program is root's.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{asNobody + "=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}
