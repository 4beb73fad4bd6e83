package port_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/internal/port"
	"github.com/serialspan/serialspan/bridge/line"
)

// stick makes a pseudoterminal: the master plays the device behind the port.
func stick(t testing.TB) (device *os.File, path string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	device = os.NewFile(uintptr(fd), "stick")
	t.Cleanup(func() { _ = device.Close() })
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	return device, "/dev/pts/" + strconv.Itoa(number)
}

func open(t testing.TB, c port.Config) *port.Port {
	t.Helper()
	p, err := port.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// termios reads the port's settings from the device's side.
func termios(t *testing.T, device *os.File) *unix.Termios {
	t.Helper()
	raw, err := device.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got *unix.Termios
	if controlErr := raw.Control(func(fd uintptr) { got, err = unix.IoctlGetTermios(int(fd), unix.TCGETS2) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return got
}

func TestOpenSettings(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path, DTR: line.DriveOff, RTS: line.DriveOn})
	if p.Path() != path {
		t.Errorf("Path = %q", p.Path())
	}
	if p.Line() != line.Default() {
		t.Errorf("Line = %v, want the default", p.Line())
	}
	got := termios(t, device)
	if got.Iflag != 0 || got.Oflag != 0 || got.Lflag != 0 || got.Cflag&unix.HUPCL != 0 || got.Cflag&(unix.CLOCAL|unix.CREAD) != unix.CLOCAL|unix.CREAD {
		t.Errorf("terminal is %+v", got)
	}
	if got.Cc[unix.VMIN] != 1 || got.Cc[unix.VTIME] != 0 {
		t.Errorf("VMIN %d, VTIME %d", got.Cc[unix.VMIN], got.Cc[unix.VTIME])
	}
}

func TestSetLine(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path, Line: line.Settings{Baud: 9600, DataBits: 8}})
	for _, tt := range []struct {
		text  string
		force string // what a PTY can do of it; empty: all
		cflag uint32 // bits that must be set
	}{
		{text: "57600n81", cflag: unix.B57600},
		{text: "250000n81", cflag: unix.BOTHER},
		{text: "115200n81", cflag: unix.B115200},
		{text: "1234567n82", cflag: unix.BOTHER | unix.CSTOPB},
		{text: "19200n81/rtscts", cflag: unix.B19200 | unix.CRTSCTS},
		{text: "19200n81/xonxoff", cflag: unix.B19200},
		{text: "300n81", cflag: unix.B300},
		{text: "9600e71", force: "9600n81", cflag: unix.B9600},
		{text: "9600m81", force: "9600n81", cflag: unix.B9600 | unix.CMSPAR | unix.PARODD},
		{text: "9600s81", force: "9600n81", cflag: unix.B9600 | unix.CMSPAR},
		{text: "9600n51.5", force: "9600n82", cflag: unix.B9600 | unix.CSTOPB},
		{text: "4000000n81", cflag: unix.B4000000},
	} {
		wanted, err := line.Parse(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SetLine(wanted); err != nil {
			t.Fatalf("SetLine(%s) = %v", tt.text, err)
		}
		if tt.force == "" {
			tt.force = tt.text
		}
		if got := p.Line().String(); got != tt.force {
			t.Errorf("Line after %s = %s, want %s", tt.text, got, tt.force)
		}
		got := termios(t, device)
		if got.Cflag&tt.cflag != tt.cflag || got.Ospeed != wanted.Baud || got.Cflag&unix.HUPCL != 0 {
			t.Errorf("%s: terminal is %+v", tt.text, got)
		}
		if xonxoff := got.Iflag&unix.IXON != 0; xonxoff != (wanted.Flow == line.FlowXONXOFF) || got.Iflag&unix.INPCK != 0 {
			t.Errorf("%s: iflag is %#x", tt.text, got.Iflag)
		}
	}
	if err := p.SetLine(line.Settings{}); !errors.Is(err, line.ErrSettings) {
		t.Errorf("SetLine of nothing = %v", err)
	}
}

func TestEveryByteBothWays(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
	var group sync.WaitGroup
	for _, end := range []struct {
		name string
		io.ReadWriter
	}{{"device", device}, {"port", p}} {
		group.Go(func() {
			if n, err := end.Write(data); n != len(data) || err != nil {
				t.Errorf("%s writes %d, %v", end.name, n, err)
			}
		})
		group.Go(func() {
			have := make([]byte, len(data))
			if _, err := io.ReadFull(end, have); err != nil || !bytes.Equal(have, data) {
				t.Errorf("%s reads other bytes, %v", end.name, err)
			}
		})
	}
	group.Wait()
}

func TestExclusive(t *testing.T) {
	_, path := stick(t)
	first := open(t, port.Config{Path: path})
	if _, err := port.Open(port.Config{Path: path}); !errors.Is(err, port.ErrBusy) {
		t.Fatalf("second Open = %v, want ErrBusy", err)
	}
	// The refused open must not have taken anything away from the first.
	if _, err := first.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := port.Open(port.Config{Path: path}); !errors.Is(err, port.ErrBusy) {
		t.Fatalf("third Open = %v, want ErrBusy", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, port.Config{Path: path})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	// Another program, by TIOCEXCL without flock. Root could open it all the same.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := port.Open(port.Config{Path: path}); !errors.Is(err, port.ErrBusy) {
		t.Fatalf("Open of an exclusive tty = %v, want ErrBusy", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, path := stick(t)
	for _, tt := range []struct {
		name   string
		config port.Config
		want   error
	}{
		{"nothing there", port.Config{Path: filepath.Join(dir, "missing")}, fs.ErrNotExist},
		{"no path", port.Config{}, fs.ErrNotExist},
		{"a file", port.Config{Path: file}, port.ErrNotTTY},
		{"a device that is no tty", port.Config{Path: "/dev/null"}, port.ErrNotTTY},
		{"half settings", port.Config{Path: path, Line: line.Settings{Baud: 1}}, line.ErrSettings},
	} {
		if _, err := port.Open(tt.config); !errors.Is(err, tt.want) {
			t.Errorf("%s: Open = %v, want %v", tt.name, err, tt.want)
		}
	}
	if have, err := os.ReadFile(file); string(have) != "precious" || err != nil {
		t.Errorf("the file has %q now, %v", have, err)
	}
}

func TestGone(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	read := make(chan error)
	go func() {
		_, err := p.Read(make([]byte, 16))
		read <- err
	}()
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, port.ErrGone) {
		t.Errorf("Read = %v, want ErrGone", err)
	}
	_, writeErr := p.Write([]byte("x"))
	_, tryErr := p.TryWrite([]byte("x"))
	_, modemErr := p.Modem()
	for name, err := range map[string]error{
		"Write": writeErr, "TryWrite": tryErr, "SetLine": p.SetLine(line.Default()), "PurgeInput": p.PurgeInput(), "Modem": modemErr,
	} {
		if !errors.Is(err, port.ErrGone) {
			t.Errorf("%s = %v, want ErrGone", name, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func TestClose(t *testing.T) {
	_, path := stick(t)
	p := open(t, port.Config{Path: path})
	results := make(chan error)
	go func() {
		_, err := p.Read(make([]byte, 16))
		results <- err
	}()
	go func() {
		_, err := p.Write(make([]byte, 1<<20))
		results <- err
	}()
	go func() { results <- p.Break(context.Background(), time.Hour) }()
	// Wait until the writer has filled the queue: then all three are under way or
	// will find the port closed, which must come to the same.
	for {
		n, err := p.TryWrite(make([]byte, 1))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-results; !errors.Is(err, port.ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("unblocked with %v, want ErrClosed", err)
		}
	}
	_, readErr := p.Read(make([]byte, 1))
	_, tryErr := p.TryWrite([]byte("x"))
	_, modemErr := p.Modem()
	for name, err := range map[string]error{
		"Read": readErr, "TryWrite": tryErr, "SetLine": p.SetLine(line.Default()), "SetModem": p.SetModem(line.DTR, 0), "Modem": modemErr,
		"PurgeOutput": p.PurgeOutput(), "Break": p.Break(context.Background(), 0), "Drain": p.Drain(context.Background()),
		"SetWriteDeadline": p.SetWriteDeadline(time.Time{}),
	} {
		if !errors.Is(err, port.ErrClosed) {
			t.Errorf("%s after Close = %v", name, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestTryWriteAndDeadline(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	block := make([]byte, 256<<10)
	for i := range block {
		block[i] = byte(i * 7)
	}
	total, err := p.TryWrite(block)
	if total == 0 || total == len(block) || err != nil {
		t.Fatalf("TryWrite of more than fits = %d, %v", total, err)
	}
	if err := p.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	// The kernel moves what it has from buffer to buffer, and so there may be
	// room again.
	for err == nil && total < len(block) {
		var n int
		n, err = p.Write(block[total:])
		total += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write after the deadline = %v", err)
	}
	have := make([]byte, total)
	if _, err := io.ReadFull(device, have); err != nil || !bytes.Equal(have, block[:total]) {
		t.Errorf("the device reads other bytes, %v", err)
	}
}

func TestPurgeInput(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	if _, err := device.Write([]byte("0stale")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if _, err := p.Read(buf[:1]); err != nil { // the bytes have arrived
		t.Fatal(err)
	}
	if err := p.PurgeInput(); err != nil {
		t.Fatal(err)
	}
	if _, err := device.Write([]byte("fresh")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(buf); string(buf[:n]) != "fresh" || err != nil {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
	if err := p.PurgeOutput(); err != nil {
		t.Error(err)
	}
}

// A PTY has none of these; none may break it.
func TestWithoutModemLines(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	if _, err := p.Modem(); !errors.Is(err, port.ErrNoModemLines) {
		t.Errorf("Modem = %v", err)
	}
	if err := p.SetModem(line.ModemOutputs, line.DTR); !errors.Is(err, port.ErrNoModemLines) {
		t.Errorf("SetModem = %v", err)
	}
	if err := p.Break(t.Context(), time.Millisecond); err != nil {
		t.Errorf("Break = %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Break(ended, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Break with an ended context = %v", err)
	}
	if err := p.Drain(t.Context()); err != nil {
		t.Errorf("Drain = %v", err)
	}
	if _, err := device.Write([]byte("alive")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := p.Read(buf); string(buf[:n]) != "alive" || err != nil {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
}

// "stty min 0" by somebody else makes reads return nothing, which is no end.
func TestReadOutlivesVMIN0(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	changed := termios(t, device)
	changed.Cc[unix.VMIN] = 0
	raw, err := device.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS2, changed) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	if _, err := device.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := p.Read(buf); string(buf[:n]) != "a" || err != nil {
		t.Fatalf("Read = %q, %v", buf[:n], err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n, err := p.Read(buf); string(buf[:n]) != "b" || err != nil {
			t.Errorf("Read = %q, %v", buf[:n], err)
		}
	}()
	if _, err := device.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	<-done
}

// Every field of Config has a test: add one with a field. What a PTY cannot show
// (modem lines, a queue that drains slowly) is tested on its computation, or on
// real drivers in tests/.
func TestConfigFields(t *testing.T) {
	tested := map[string]string{
		"Path": "TestOpenRefuses", "Line": "TestSetLine", "DTR": "TestDrives", "RTS": "TestDrives",
		"CloseWait": "real drivers", "Logger": "TestLogger", "RS485": "TestRS485", "SysfsRoot": "TestLatencyTimer",
	}
	for field := range reflect.TypeFor[port.Config]().Fields() {
		if tested[field.Name] == "" {
			t.Errorf("Config.%s has no test", field.Name)
		}
	}
}

func TestLogger(t *testing.T) {
	var text bytes.Buffer
	_, path := stick(t)
	open(t, port.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if !strings.Contains(text.String(), "low latency not set") {
		t.Errorf("the log has %q", text.String())
	}
}

func TestNoAllocations(t *testing.T) {
	device, path := stick(t)
	p := open(t, port.Config{Path: path})
	message, buf := []byte("0123456789abcdef"), make([]byte, 4096)
	allocations := testing.AllocsPerRun(200, func() {
		if n, err := p.TryWrite(message); n != 16 || err != nil {
			t.Fatalf("TryWrite = %d, %v", n, err)
		}
		if _, err := io.ReadFull(device, buf[:16]); err != nil {
			t.Fatal(err)
		}
		if _, err := device.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p, buf[:16]); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations per round trip", allocations)
	}
}

func BenchmarkPingPong16(b *testing.B) {
	device, path := stick(b)
	p := open(b, port.Config{Path: path})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := p.Read(buf)
			if err != nil {
				return
			}
			_, _ = p.TryWrite(buf[:n])
		}
	}()
	buf := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := device.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(device, buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = p.Close()
	<-done
}
