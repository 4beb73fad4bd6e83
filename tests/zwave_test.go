package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
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
//	zwave_driver.cjs ─ PTY or TCP ─ agent consumer ═══ agent edge ─ PTY ─ pump ─ TCP ─ zwave_stick.cjs
//
// The same driver first uses the stick without us, so that a failure of that
// is not taken for one of ours.
func TestZWave(t *testing.T) {
	lab.NeedRoot(t)
	lab.NeedTools(t, "node", "npm")
	modules := nodeModules(t)
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

// driven is what zwave_driver.cjs prints at its end.
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

// driveStick runs zwave_driver.cjs on the host against the stick at path and fails
// the test unless every write was answered.
func driveStick(t *testing.T, host *lab.Host, modules, path string, writes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := node(ctx, host, modules, "zwave_driver.cjs", path, dir, fmt.Sprint(writes))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zwave_driver.cjs %s: %v\n%s\n%s", path, err, stderr.Bytes(), driverLog(dir))
	}
	got := driverResult(t, string(out))
	if got.Writes != writes || got.InterviewStage != "Complete" || len(got.Errors) > 0 {
		t.Errorf("zwave_driver.cjs %s: %+v; want %d writes, interview Complete, no errors\n%s", path, got, writes, driverLog(dir))
	}
	if naks, known := got.Statistics["NAK"]; naks != 0 || !known {
		t.Errorf("zwave_driver.cjs %s: %d frames were damaged\n%s", path, naks, driverLog(dir))
	}
	t.Logf("driver ready after %d ms, interview completed after %d ms, %d writes in %d ms; %v",
		got.DriverReadyMs, got.InterviewMs, got.Writes, got.TotalMs-got.InterviewMs, got.Statistics)
}

// driverResult returns the last line of what zwave_driver.cjs has printed.
func driverResult(t *testing.T, printed string) (got driven) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("zwave_driver.cjs printed %q: %v", lines[len(lines)-1], err)
	}
	return got
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

// zwaveStick is a running zwave_stick.cjs: a tty, and what it prints.
type zwaveStick struct {
	*lab.TTY
	output *lockedBuffer
}

// startStick starts zwave_stick.cjs on the host.
func startStick(t *testing.T, host *lab.Host, modules string) *zwaveStick {
	t.Helper()
	const address = "127.0.0.1:5555"
	cmd := node(t.Context(), host, modules, "zwave_stick.cjs", "127.0.0.1", "5555")
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
			text := output.String()
			t.Logf("the end of what zwave_stick.cjs said:\n%s", text[max(0, len(text)-8<<10):])
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
	return &zwaveStick{TTY: tty, output: output}
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
