package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReloadUnlistable: the configuration file stands where the agent's user may
// go and not look around. An editor moves it away and writes another, and nothing
// tells that it is back: the agent looks by itself.
func TestReloadUnlistable(t *testing.T) {
	if os.Geteuid() == 0 { // who may look anywhere
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		runAsNobody(t, "TMPDIR="+dir)
		return
	}
	r := newReal(t, base)
	closed := filepath.Join(r.dir, "closed")
	if err := os.Mkdir(closed, 0o300); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })
	r.file = filepath.Join(closed, "serialspan.yaml")
	if err := os.Rename(filepath.Join(r.dir, "cluster.secret"), filepath.Join(closed, "cluster.secret")); err != nil {
		t.Fatal(err)
	}
	r.write(base)
	r.start()
	first, second := "attachments: [{device: x, pty: {link: $DIR/x}}]\n", "attachments: [{device: y, pty: {link: $DIR/y}}]\n"
	r.write(base + first)
	r.until("what was written is taken over", func() bool { return slices.Equal(r.attachments(), []string{"x x file"}) })
	if err := os.Rename(r.file, r.file+"~"); err != nil {
		t.Fatal(err)
	}
	r.until("the missing file is shown", r.showsProblem("no configuration", "stays in force"))
	r.write(base + second)
	r.until("the new file is taken over", func() bool { return slices.Equal(r.attachments(), []string{"y y file"}) })
	if !strings.Contains(r.log.String(), "configuration file cannot be watched, it is read now and then") {
		t.Errorf("not said in the log:\n%s", r.log)
	}
	r.write(base + first)
	r.until("it is watched again", func() bool { return slices.Equal(r.attachments(), []string{"x x file"}) })
}
