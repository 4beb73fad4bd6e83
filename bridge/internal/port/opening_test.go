package port_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/line"
)

func TestRS485(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode port.RS485
		want string // flags, before, after
	}{
		{"plain", port.RS485{On: true}, "030000000000000000000000"},
		{"inverted, delays", port.RS485{
			On: true, RTSOnSend: line.DriveOff, RTSAfterSend: line.DriveOn, BeforeSend: 2 * time.Millisecond, AfterSend: 258 * time.Millisecond,
		}, "050000000200000002010000"},
		{"echo, terminated", port.RS485{On: true, ReceiveDuringSend: true, Terminate: true}, "330000000000000000000000"},
	} {
		want, err := hex.DecodeString(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		have := tt.mode.Kernel()
		if len(have) != 32 || !bytes.Equal(have[:12], want) || !bytes.Equal(have[12:], make([]byte, 20)) {
			t.Errorf("%s: %x, want %x and zeroes", tt.name, have, want)
		}
	}
	_, path := stick(t)
	if _, err := port.Open(port.Config{Path: path, RS485: port.RS485{On: true}}); !errors.Is(err, port.ErrNoRS485) {
		t.Errorf("RS-485 on a PTY: %v", err)
	}
	open(t, port.Config{Path: path})
}

// TestLatencyTimer: where the driver does not take the flag, the timer of its
// port in sysfs is set.
func TestLatencyTimer(t *testing.T) {
	_, path := stick(t)
	link := filepath.Join(t.TempDir(), "ttyUSB7")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	p := open(t, port.Config{Path: link, SysfsRoot: t.TempDir()})
	root := t.TempDir()
	if err := port.LowLatency(p, root); err == nil {
		t.Error("set without a flag or a timer")
	}
	dir := filepath.Join(root, "bus", "usb-serial", "devices", filepath.Base(path))
	timer := filepath.Join(dir, "latency_timer")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(timer, []byte("16\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := port.LowLatency(p, root); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(timer); err != nil || string(text) != "1" {
		t.Errorf("the timer has %q, %v", text, err)
	}
}

// TestInterrupt: a thread that waits in the kernel comes back, though Go makes
// the kernel begin interrupted calls again.
func TestInterrupt(t *testing.T) {
	for range 20 {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		read := make(chan byte, 1)
		stop, err := port.Interruptible(func() error {
			var b [1]byte
			n, err := unix.Read(pipe[0], b[:])
			if n == 1 {
				read <- b[0]
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(pipe[1], []byte{7}); err != nil {
			t.Fatal(err)
		}
		if b := <-read; b != 7 {
			t.Errorf("read %d", b)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		_ = unix.Close(pipe[0])
		_ = unix.Close(pipe[1])
	}
	called := make(chan struct{})
	stop, err := port.Interruptible(func() error {
		close(called)
		return unix.ENOTTY
	})
	if err != nil {
		t.Fatal(err)
	}
	<-called
	if err := stop(); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("a call that fails: %v", err)
	}
}

func TestWatchModemWithout(t *testing.T) {
	_, path := stick(t)
	p := open(t, port.Config{Path: path})
	err := p.WatchModem(context.Background(), func(on line.ModemLines) { t.Errorf("told %v", on) })
	if !errors.Is(err, port.ErrNoModemLines) {
		t.Errorf("a PTY: %v", err)
	}
	_ = p.Close()
	if err := p.WatchModem(context.Background(), func(on line.ModemLines) { t.Errorf("told %v", on) }); err != nil {
		t.Errorf("a closed port: %v", err)
	}
}

func TestSetBreakAndQueued(t *testing.T) {
	_, path := stick(t)
	p := open(t, port.Config{Path: path})
	for _, to := range []line.Drive{line.DriveOn, line.DriveUnchanged, line.DriveOff} {
		if err := p.SetBreak(to); err != nil {
			t.Errorf("break %v: %v", to, err)
		}
	}
	if n, err := p.Queued(); n != 0 || err != nil {
		t.Errorf("queued %d, %v", n, err)
	}
	_ = p.Close()
	if err := p.SetBreak(line.DriveOn); !errors.Is(err, port.ErrClosed) {
		t.Errorf("break of a closed port: %v", err)
	}
	if _, err := p.Queued(); !errors.Is(err, port.ErrClosed) {
		t.Errorf("queued of a closed port: %v", err)
	}
}

// TestReadTaking: taking is called before bytes leave the driver: they come from
// it here.
func TestReadTaking(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	buf := make([]byte, 100)
	for range 2 {
		asked := 0
		n, err := p.ReadTaking(buf, func() {
			if asked++; asked > 1 {
				return
			}
			if _, err := device.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
		})
		if n != 5 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
}
