package port_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/line"
)

// Tests on a real driver run in a virtual machine; tests/ builds this package's
// test for it.
var (
	realTTY     = flag.String("tty", "", "a tty with modem lines, for TestRealModem")
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
