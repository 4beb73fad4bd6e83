package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// TestZWave has a real Z-Wave driver use a stick on another host: zwave-js as
// the application, its mock controller as the stick.
//
//	driver.cjs ─ PTY or TCP ─ agent consumer ═══ agent edge ─ PTY ─ pump ─ TCP ─ stick.cjs
//
// The same driver first uses the stick without us, so that a failure of that
// is not taken for one of ours.
func TestZWave(t *testing.T) {
	lab.NeedRoot(t)
	lab.NeedTools(t, "node", "npm")
	modules := zwaveModules(t)
	c := &threeHosts{network: lab.NewNetwork(t, "edge", "consumer", "third"), secret: lab.NewSecret(t)}
	edge, consumer := c.network.Host("edge"), c.network.Host("consumer")
	stick := startStick(t, edge, modules)

	if !t.Run("without us", func(t *testing.T) { driveStick(t, edge, modules, stick.Path, 5) }) {
		return
	}
	c.start(t, "garage-zwave", stick.Path)
	t.Run("PTY", func(t *testing.T) {
		link := c.attachPTY(t, "garage-zwave")
		driveStick(t, consumer, modules, link, 50)
		c.consumer.MustRun("detach", link)
		c.consumer.WaitDevice("garage-zwave", 10*time.Second)
	})
	t.Run("TCP", func(t *testing.T) {
		address := c.attachTCP(t, "garage-zwave")
		driveStick(t, consumer, modules, "tcp://"+address, 50)
	})
}

// driven is what driver.cjs prints.
type driven struct {
	Errors         []string `json:"errors"`
	DriverReadyMs  int      `json:"driverReadyMs"`
	InterviewMs    int      `json:"interviewMs"`
	InterviewStage string   `json:"interviewStage"`
	Writes         int      `json:"writes"`
	TotalMs        int      `json:"totalMs"`
	// Statistics are counters of the driver. NAK counts frames with a wrong
	// checksum: bytes were lost or changed. The others may come of a machine
	// that was busy for 1.6 s.
	Statistics map[string]int `json:"statistics"`
}

// driveStick runs driver.cjs on the host against the stick at path and fails
// the test unless every write was answered.
func driveStick(t *testing.T, host *lab.Host, modules, path string, writes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := node(ctx, host, modules, "driver.cjs", path, dir, fmt.Sprint(writes))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("driver.cjs %s: %v\n%s\n%s", path, err, stderr.Bytes(), driverLog(dir))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var got driven
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("driver.cjs %s printed %q: %v", path, out, err)
	}
	if got.Writes != writes || got.InterviewStage != "Complete" || len(got.Errors) > 0 {
		t.Errorf("driver.cjs %s: %+v; want %d writes, interview Complete, no errors\n%s", path, got, writes, driverLog(dir))
	}
	if naks, known := got.Statistics["NAK"]; naks != 0 || !known {
		t.Errorf("driver.cjs %s: %d frames were damaged\n%s", path, naks, driverLog(dir))
	}
	t.Logf("driver ready after %d ms, interview completed after %d ms, %d writes in %d ms; %v",
		got.DriverReadyMs, got.InterviewMs, got.Writes, got.TotalMs-got.InterviewMs, got.Statistics)
}

// driverLog returns the end of the driver's log in dir.
func driverLog(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "driver_*-*.log"))
	if len(files) == 0 {
		return "(no log of the driver)"
	}
	text, _ := os.ReadFile(files[0])
	return string(text[max(0, len(text)-8<<10):])
}

// startStick starts stick.cjs on the host and returns the tty that it is.
func startStick(t *testing.T, host *lab.Host, modules string) *lab.TTY {
	t.Helper()
	const address = "127.0.0.1:5555"
	cmd := node(t.Context(), host, modules, "stick.cjs", "127.0.0.1", "5555")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the context of the test has ended: it got SIGTERM
		if t.Failed() {
			t.Logf("stick.cjs:\n%s", output)
		}
	})
	var conn net.Conn
	lab.WaitFor(t, "the stick at "+address, 20*time.Second, func() error {
		if !strings.Contains(output.String(), "stick ready") {
			return errors.New("it has not said so")
		}
		return host.Do(func() (err error) {
			conn, err = net.DialTimeout("tcp", address, time.Second)
			return err
		})
	})
	tty := lab.NewTTY(t)
	pump(t, tty, conn)
	return tty
}

// pump carries bytes between the tty and the stick until the test ends.
func pump(t *testing.T, tty *lab.TTY, conn net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(conn, tty) })
	both.Go(func() { _, _ = io.Copy(tty, conn) })
	t.Cleanup(func() {
		_ = conn.Close()
		_ = tty.SetDeadline(time.Unix(1, 0))
		both.Wait()
	})
}

// node returns a command that runs a script of tests/zwave on the host.
func node(ctx context.Context, host *lab.Host, modules, script string, args ...string) *exec.Cmd {
	cmd := host.Command(ctx, "node", append([]string{filepath.Join("zwave", script)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// zwaveModules returns the node_modules folder with what tests/zwave's lock
// file names. It installs it in the user's cache once per lock file.
func zwaveModules(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("zwave/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "serialspan-tests", fmt.Sprintf("zwave-%x", sha256.Sum256(lock))[:18])
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
		text, err := os.ReadFile(filepath.Join("zwave", name))
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
