package tests

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// demoTime is what the issue promises of `serialspan demo --once`.
const demoTime = 10 * time.Second

// TestDemoOnce runs the demo as a user who may do nothing special, if the test
// is root.
func TestDemoOnce(t *testing.T) {
	program := lab.Program(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*demoTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "demo", "--once")
	temp := t.TempDir()
	if os.Geteuid() == 0 {
		// The program where nobody can reach it, and a folder that is nobody's.
		const nobody = 65534
		temp = nobodysDir(t, nobody)
		cmd.Path = filepath.Join(temp, "serialspan")
		if err := exec.Command("cp", program, cmd.Path).Run(); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	cmd.Dir = temp
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + temp, "HOME=" + temp}
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		t.Fatalf("serialspan demo --once: %v\n%s", err, out)
	}
	if took > demoTime {
		t.Errorf("took %v, promised are %v", took, demoTime)
	}
	for _, pattern := range []string{
		`(?m)^round trip through the PTY: .*\d+\.\d+ ms`,
		`(?m)^round trip through the TCP( port)?: .*\d+\.\d+ ms`,
		`\bedge\b`, `\bcloud\b`, `\bconsumer\b`,
	} {
		if !regexp.MustCompile(pattern).Match(out) {
			t.Errorf("output has nothing like %s:\n%s", pattern, out)
		}
	}
	left, err := filepath.Glob(filepath.Join(temp, "serialspan-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%v\n%s", took.Round(time.Millisecond), out)
}

// nobodysDir makes a folder below /tmp that belongs to uid.
func nobodysDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssp-demo")
	if err == nil {
		err = os.Chown(dir, uid, uid)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestDemo opens what the running demo prints, as a user would, and ends it
// with Ctrl-C.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	output := &lockedBuffer{}
	cmd := exec.CommandContext(t.Context(), lab.Program(t), "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`(?m)^\s*PTY\s+(\S+)$`)
	var link string
	lab.WaitFor(t, "the PTY of the demo", demoTime, func() error {
		found := links.FindStringSubmatch(output.String())
		if found == nil {
			return errors.New("output is:\n" + output.String())
		}
		link = found[1]
		return nil
	})
	app := lab.OpenTTY(t, link)
	_ = app.SetDeadline(time.Now().Add(demoTime))
	if _, err := app.WriteString("PING 7\n"); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for buffer := make([]byte, 256); !strings.Contains(got.String(), "PONG 7\r\n"); {
		n, err := app.Read(buffer)
		if err != nil {
			t.Fatalf("read %s: %v; have %q\n%s", link, err, got.String(), output)
		}
		got.Write(buffer[:n])
	}
	_ = app.Close()
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("demo after Ctrl-C: %v\n%s", err, output)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
