package port_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/line"
)

// Tests on a real driver run in a virtual machine; tests/ builds this package's
// test for it.
var (
	realTTY     = flag.String("tty", "", "a tty with modem lines, for the tests on a real driver")
	realHold    = flag.String("hold", "", "flock or exclusive, for TestRealHold")
	realLatency = flag.String("low-latency", "", "on or off, for TestRealLatency")
	realChanges = flag.Int("changes", 1, "how many changes of its modem lines TestRealModem waits for")
)

// TestRealModem prints the modem lines at first and after each change, and ends
// while a thread waits in the kernel.
func TestRealModem(t *testing.T) {
	if *realTTY == "" {
		return // tests/vm_hotplug_test.go runs it in a guest with real drivers
	}
	p := open(t, port.Config{Path: *realTTY, DTR: line.DriveOff, RTS: line.DriveOff})
	told := make(chan line.ModemLines, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- p.WatchModem(context.Background(), func(on line.ModemLines) { told <- on })
	}()
	for range *realChanges + 1 {
		select {
		case on := <-told:
			fmt.Fprintf(os.Stdout, "modem %v\n", on)
		case <-time.After(20 * time.Second):
			t.Fatal("no change in 20 s")
		}
	}
	began := time.Now()
	if err := p.Close(); err != nil && !errors.Is(err, port.ErrClosed) {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}

// TestRealLatency sets or clears low latency of a tty that others may have open
// for themselves, as root may.
func TestRealLatency(t *testing.T) {
	if *realTTY == "" {
		return // tests/vm_drivers_test.go runs it in a guest with real drivers
	}
	want, err := line.ParseDrive(*realLatency)
	if err != nil {
		t.Fatal(err)
	}
	f := openPlain(t, *realTTY)
	if err := port.SetLowLatency(int(f.Fd()), want); err != nil {
		t.Error(err)
	}
}

// TestRealRate counts requests and answers of 16 bytes by second at a device
// that echoes, with low latency as Open leaves it ("on") and without, in turns.
func TestRealRate(t *testing.T) {
	if *realTTY == "" {
		return // tests/vm_drivers_test.go runs it in a guest with real drivers
	}
	for range 5 {
		p := open(t, port.Config{Path: *realTTY})
		fmt.Fprintf(os.Stdout, "low latency on: %.1f/s\n", rate(t, p))
		if err := port.SetLowLatency(int(openPlain(t, *realTTY).Fd()), line.DriveOff); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stdout, "low latency off: %.1f/s\n", rate(t, p))
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func rate(t *testing.T, p *port.Port) float64 {
	t.Helper()
	const trips = 40
	began := time.Now()
	for range trips {
		request := make([]byte, 16)
		if _, err := p.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(request); {
			more, err := p.Read(request[n:])
			if n += more; err != nil {
				t.Fatal(err)
			}
		}
	}
	return trips / time.Since(began).Seconds()
}

// TestRealHold takes a tty as other programs do, by flock or by TIOCEXCL alone,
// turns DTR and RTS off, says so and keeps it until it is killed.
func TestRealHold(t *testing.T) {
	if *realTTY == "" {
		return // tests/vm_alone_test.go runs it in a guest with real drivers
	}
	fd := int(openPlain(t, *realTTY).Fd())
	var err error
	if *realHold == "flock" {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	} else {
		err = unix.IoctlSetInt(fd, unix.TIOCEXCL, 0)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCMBIC, unix.TIOCM_DTR|unix.TIOCM_RTS)
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, "held")
	<-t.Context().Done()
}

func openPlain(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
