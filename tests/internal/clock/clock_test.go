package clock_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/tests/internal/clock"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// childVariable set to 1 makes the test binary the process under test.
const childVariable = "SERIALSPAN_TEST_CLOCK_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "1" {
		tell()
		return
	}
	goleak.VerifyTestMain(m)
}

// tell answers each line on standard input with the wall clock and the
// monotonic time since the start, in nanoseconds.
func tell() {
	start := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(time.Now().UnixNano(), time.Since(start).Nanoseconds())
	}
}

// child is a process that tells its time.
type child struct {
	*clock.Process
	in  io.Writer
	out io.Reader
}

func start(t *testing.T, offset time.Duration) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := clock.Start(cmd, offset)
	if errors.Is(err, errors.ErrUnsupported) {
		lab.Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	})
	return child{process, in, out}
}

func (c child) time(t *testing.T) (wall time.Time, monotonic time.Duration) {
	t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		t.Fatal(err)
	}
	var nanoseconds int64
	if _, err := fmt.Fscanln(c.out, &nanoseconds, &monotonic); err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, nanoseconds), monotonic
}

func wantWall(t *testing.T, got time.Time, offset time.Duration) {
	t.Helper()
	if off := time.Since(got) + offset; off < 0 || off > 5*time.Second {
		t.Errorf("the child's clock is %v, want %v", got.UTC(), time.Now().Add(offset).UTC())
	}
}

func TestClock(t *testing.T) {
	year := 365 * 24 * time.Hour
	in2016 := time.Until(time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)).Truncate(time.Second)
	c, startedAt := start(t, in2016), time.Now()
	wall, last := c.time(t)
	wantWall(t, wall, in2016)
	if wall.UTC().Year() != 2016 {
		t.Errorf("the child is in %d, want 2016", wall.UTC().Year())
	}
	for _, offset := range []time.Duration{10 * year, -10 * year, 0} {
		if err := c.Step(offset); err != nil {
			t.Fatal(err)
		}
		wall, monotonic := c.time(t)
		wantWall(t, wall, offset)
		if monotonic < last || monotonic > time.Since(startedAt) {
			t.Errorf("monotonic time was %v, now is %v, %v after the start", last, monotonic, time.Since(startedAt))
		}
		last = monotonic
	}
}

func TestNoProgram(t *testing.T) {
	if _, err := clock.Start(exec.Command("/nonexistent"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v, want that it does not exist", err)
	}
}

func TestStepAfterEnd(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	process, err := clock.Start(cmd, time.Hour)
	if errors.Is(err, errors.ErrUnsupported) {
		lab.Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := process.Step(0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("step after the end: %v, want that there is no such process", err)
	}
}
