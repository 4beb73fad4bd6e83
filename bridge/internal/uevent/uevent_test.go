package uevent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/uevent"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseGolden(t *testing.T) {
	const usb = "/devices/pci0000:00/0000:00:03.0/usb1/1-1"
	const tty = usb + "/1-1:1.0/ttyUSB0/tty/ttyUSB0"
	for _, test := range []struct {
		file  string
		want  uevent.Event
		isTTY bool
	}{
		{"tty_add.bin", uevent.Event{Action: "add", Path: tty, Subsystem: "tty", Name: "ttyUSB0", Sequence: 1042}, true},
		{"tty_remove.bin", uevent.Event{Action: "remove", Path: tty, Subsystem: "tty", Name: "ttyUSB0", Sequence: 1050}, true},
		{"usb_bind.bin", uevent.Event{Action: "bind", Path: usb, Subsystem: "usb", Name: "bus/usb/001/002", Sequence: 1044}, false},
	} {
		t.Run(test.file, func(t *testing.T) {
			have, err := uevent.Parse(golden(t, test.file))
			if err != nil || have != test.want || have.IsTTY() != test.isTTY {
				t.Errorf("%+v, tty %v, %v", have, have.IsTTY(), err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, message string }{
		{"nothing", ""},
		{"no end of the header", "add@/devices/x"},
		{"of udevd", "libudev\x00\xfe\xed\xca\xfe"},
		{"no action", "@/devices/x\x00"},
		{"no path", "add@\x00"},
		{"a path of its own", "add@devices/x\x00"},
		{"two actions", "add@/devices/x\x00ACTION=remove\x00"},
		{"no number", "add@/devices/x\x00SEQNUM=-1\x00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if e, err := uevent.Parse([]byte(test.message)); !errors.Is(err, uevent.ErrMessage) || e != (uevent.Event{}) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"tty_add.bin", "tty_remove.bin", "usb_bind.bin"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		e, err := uevent.Parse(message)
		switch {
		case err == nil && (e.Action == "" || e.Path == ""):
			t.Errorf("taken without an action or a path: %+v", e)
		case err != nil && !errors.Is(err, uevent.ErrMessage):
			t.Errorf("%v", err)
		case len(e.Action)+len(e.Path)+len(e.Subsystem)+len(e.Name) > len(message):
			t.Errorf("%d bytes became %+v", len(message), e)
		}
	})
}

// listen runs a Watcher on one end of a socket pair and returns the other.
func listen(t *testing.T) (*uevent.Watcher, int, chan error, context.CancelFunc) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pair[1]) })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := uevent.New(uevent.Config{})
	ended := make(chan error, 1)
	go func() { ended <- w.Listen(ctx, os.NewFile(uintptr(pair[0]), "uevent")) }()
	return w, pair[1], ended, cancel
}

func within(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatalf("not told of %s", what)
	}
}

func TestWatcher(t *testing.T) {
	w, kernel, ended, cancel := listen(t)
	within(t, "the start", w.Changes())
	send := func(b []byte) {
		t.Helper()
		if _, err := unix.Write(kernel, b); err != nil {
			t.Fatal(err)
		}
	}
	send(golden(t, "tty_add.bin"))
	within(t, "a new tty", w.Changes())
	// What is no tty, and no event at all, tells nothing: the next change is
	// that of the tty after them.
	send(golden(t, "usb_bind.bin"))
	send([]byte("libudev\x00"))
	send(golden(t, "tty_remove.bin"))
	within(t, "a tty that went", w.Changes())
	select {
	case <-w.Changes():
		t.Error("told of something that is no tty")
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestKernelSocket: the kernel gives everybody the socket, and Run ends.
func TestKernelSocket(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := uevent.New(uevent.Config{})
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	within(t, "the start", w.Changes())
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestKernelEvent: a synthetic event of the kernel is heard. It needs root and
// a tty with a writable uevent file.
func TestKernelEvent(t *testing.T) {
	const file = "/sys/class/tty/ttyS0/uevent"
	if f, err := os.OpenFile(file, os.O_WRONLY, 0); err != nil {
		t.Skip(err)
	} else {
		_ = f.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := uevent.New(uevent.Config{})
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	within(t, "the start", w.Changes())
	if err := os.WriteFile(file, []byte("change"), 0); err != nil {
		t.Skip(err)
	}
	within(t, "the kernel's event", w.Changes())
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
