package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.bug.st/serial"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/simstick"
)

// consumerOf starts a second agent on loopback that joins the first.
func consumerOf(t *testing.T, edge *real) *real {
	t.Helper()
	c := newReal(t, fmt.Sprintf("node: {name: desk, state_dir: $DIR/state}\nmesh: {listen: '127.0.0.1:0', lan: false}\ncontrol: {socket: $DIR/s}\ncluster: {join: ['%s']}\n", edge.Status().Listen))
	secret, err := os.ReadFile(filepath.Join(edge.dir, "cluster.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "cluster.secret"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	c.machine = "another machine"
	c.start()
	c.until("the consumer to resolve the stick", func() bool {
		_, err := c.Resolve("stick")
		return err == nil
	})
	return c
}

// ttyStick makes a PTY with a simulated stick behind it and returns its path.
func ttyStick(t *testing.T) string {
	t.Helper()
	master, slave, err := publish.OpenSimulatedPTY()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- simstick.Serve(ctx, master) }()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	return slave
}

const stickRule = "devices: {publish: listed, rules: [{match: {path: %s}, name: stick, line: 9600n81%s}]}\n"

// pinnedPort is a PTY with modem lines that nobody drives: what a tty would be
// asked for is noted.
type pinnedPort struct {
	publish.Port
	mu      sync.Mutex
	line    line.Settings
	on      line.ModemLines
	history []string
}

func (p *pinnedPort) note(format string, args ...any) {
	p.history = append(p.history, fmt.Sprintf(format, args...))
}

func (p *pinnedPort) happened() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := strings.Join(p.history, ", ")
	p.history = nil
	return h
}

func (p *pinnedPort) SetLine(s line.Settings) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Baud > 460800 {
		return errors.New("invalid argument")
	}
	p.line = s
	p.note("%v", s)
	return nil
}

func (p *pinnedPort) Line() line.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line
}

func (p *pinnedPort) SetModem(mask, on line.ModemLines) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = p.on&^mask | on&mask
	p.note("%v", p.on&line.ModemOutputs)
	return nil
}

func (p *pinnedPort) SetBreak(to line.Drive) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("break %v", to)
	return nil
}

func (p *pinnedPort) Modem() (line.ModemLines, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on, nil
}

func (p *pinnedPort) WatchModem(ctx context.Context, changed func(line.ModemLines)) error {
	on, _ := p.Modem()
	changed(on)
	<-ctx.Done()
	return nil
}

// pinnedStick starts an agent whose stick has modem lines.
func pinnedStick(t *testing.T) (*real, *pinnedPort) {
	t.Helper()
	r := newReal(t, base+fmt.Sprintf(stickRule, stickPath, ""))
	port := &pinnedPort{on: line.ModemOutputs | line.CTS}
	r.exists = func(path string) bool { return path == stickPath }
	r.open = func(spec publish.PortSpec) (publish.Port, error) {
		e, err := newEcho(spec)
		port.Port, port.line = e, spec.Line
		return port, err
	}
	r.start()
	r.until("the stick is published", r.available("stick"))
	return r, port
}

func (r *real) available(name string) func() bool {
	return func() bool {
		found, err := r.Resolve(name)
		return err == nil && found.Device.State == client.DeviceAvailable
	}
}

// ask writes a line and reads one.
func ask(t *testing.T, p serial.Port, question string) string {
	t.Helper()
	if _, err := io.WriteString(p, question+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(p).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// TestPortAcrossAgents: two agents over loopback, a simulated stick on a PTY.
func TestPortAcrossAgents(t *testing.T) {
	edge := newReal(t, base+fmt.Sprintf(stickRule, ttyStick(t), ""))
	edge.start()
	desk := consumerOf(t, edge)
	var port serial.Port
	port, err := desk.ctl.OpenPort(t.Context(), "stick", client.PortOptions{Mode: &serial.Mode{BaudRate: 57600}, Owner: "garage"})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if a := ask(t, port, "PING hello"); a != "PONG hello" {
		t.Errorf("answer %q", a)
	}
	desk.until("the stick is in use", func() bool {
		s, err := desk.Resolve("stick")
		return err == nil && s.Device.State == client.DeviceInUse
	})
	// 200 KB there and back: larger than every buffer on the way.
	sent := []byte("ECHO " + strings.Repeat(strings.Repeat("x", 1000)+"\nECHO ", 200))
	sent = sent[:len(sent)-len("ECHO ")]
	wrote := make(chan error, 1)
	go func() {
		_, err := port.Write(sent)
		wrote <- err
	}()
	want := bytes.ReplaceAll(bytes.ReplaceAll(sent, []byte("ECHO "), nil), []byte("\n"), []byte("\r\n"))
	have := make([]byte, len(want))
	if _, err := io.ReadFull(port, have); err != nil || !bytes.Equal(have, want) {
		t.Errorf("bytes changed on the way, %v", err)
	}
	if err := errors.Join(<-wrote, port.Drain()); err != nil {
		t.Error(err)
	}
	if err := port.SetMode(&serial.Mode{BaudRate: 230400, DataBits: 8, StopBits: serial.TwoStopBits}); err != nil {
		t.Error(err)
	}
	if err := port.SetDTR(true); !errors.Is(err, client.Unsupported) {
		t.Errorf("a PTY has DTR: %v", err)
	}
	if _, err := port.GetModemStatusBits(); !errors.Is(err, client.Unsupported) {
		t.Errorf("a PTY has modem lines: %v", err)
	}
	if err := port.Close(); err != nil {
		t.Error(err)
	}
	desk.until("the stick is free again", desk.available("stick"))
}

// TestPortModes: each mode of go.bug.st/serial reaches the device, or says by
// its code what does not.
func TestPortModes(t *testing.T) {
	r, device := pinnedStick(t)
	var events []client.PortEvent
	var mu sync.Mutex
	port, err := r.ctl.OpenPort(t.Context(), "stick", client.PortOptions{
		Mode:  &serial.Mode{BaudRate: 19200, DataBits: 7, Parity: serial.EvenParity, InitialStatusBits: &serial.ModemOutputBits{RTS: true}},
		Event: func(e client.PortEvent) { mu.Lock(); defer mu.Unlock(); events = append(events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if h := device.happened(); h != "19200e71, rts" {
		t.Errorf("the open did %q", h)
	}
	for _, test := range []struct {
		mode serial.Mode
		want string
		code serial.PortErrorCode
	}{
		{serial.Mode{}, "9600n81", 0},
		{serial.Mode{BaudRate: 115200, DataBits: 8, Parity: serial.OddParity}, "115200o81", 0},
		{serial.Mode{BaudRate: 300, DataBits: 7, Parity: serial.MarkParity, StopBits: serial.TwoStopBits}, "300m72", 0},
		{serial.Mode{BaudRate: 250000, DataBits: 6, Parity: serial.SpaceParity}, "250000s61", 0},
		{serial.Mode{BaudRate: 50, DataBits: 5, StopBits: serial.OnePointFiveStopBits}, "50n51.5", 0},
		{serial.Mode{BaudRate: -1}, "", serial.InvalidSpeed},
		{serial.Mode{DataBits: 9}, "", serial.InvalidDataBits},
		{serial.Mode{Parity: 9}, "", serial.InvalidParity},
		{serial.Mode{StopBits: 9}, "", serial.InvalidStopBits},
		{serial.Mode{StopBits: serial.OnePointFiveStopBits}, "", serial.InvalidStopBits},
		{serial.Mode{BaudRate: 921600}, "", serial.InvalidSpeed}, // the driver says no
		{serial.Mode{BaudRate: 9600}, "9600n81", 0},
	} {
		err := port.SetMode(&test.mode)
		have := device.happened()
		if test.want != "" {
			if err != nil || have != test.want || port.Line().String() != test.want {
				t.Errorf("%+v: %v, the device did %q, want %q; in force %v", test.mode, err, have, test.want, port.Line())
			}
			continue
		}
		e, ok := errors.AsType[interface {
			error
			Code() serial.PortErrorCode
		}](err)
		if !ok || e.Code() != test.code || have != "" {
			t.Errorf("%+v: %v, the device did %q", test.mode, err, have)
		}
	}
	if err := errors.Join(port.SetDTR(true), port.SetRTS(false), port.Break(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if h := device.happened(); h != "dtr+rts, dtr, break on, break off" {
		t.Errorf("the device did %q", h)
	}
	bits, err := port.GetModemStatusBits()
	if err != nil || *bits != (serial.ModemStatusBits{CTS: true}) {
		t.Errorf("modem lines %+v, %v", bits, err)
	}
	mu.Lock()
	defer mu.Unlock()
	lines := 0
	for _, e := range events {
		if e.Kind == client.PortLine {
			lines++
		}
	}
	if lines < 5 {
		t.Errorf("%d changes of the line settings in %+v", lines, events)
	}
}

// TestPortRead: time-outs, purges and Close as go.bug.st/serial has them.
func TestPortRead(t *testing.T) {
	r, _ := pinnedStick(t)
	port, err := r.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	buf := make([]byte, 100)
	for _, timeout := range []time.Duration{0, 20 * time.Millisecond} {
		if err := port.SetReadTimeout(timeout); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if n, err := port.Read(buf); n != 0 || err != nil || time.Since(began) < timeout {
			t.Errorf("timeout %v: %d bytes, %v after %v", timeout, n, err, time.Since(began))
		}
	}
	if err := port.SetReadTimeout(-2); err == nil {
		t.Error("-2 ns is taken for a time-out")
	}
	port.SetReadTimeout(serial.NoTimeout)
	port.Write([]byte("stale"))
	if _, err := io.ReadFull(port, buf[:1]); err != nil { // it is on its way back
		t.Fatal(err)
	}
	if err := port.ResetInputBuffer(); err != nil {
		t.Fatal(err)
	}
	port.Write([]byte("fresh"))
	if n, err := io.ReadFull(port, buf[:5]); err != nil || string(buf[:n]) != "fresh" {
		t.Errorf("read %q, %v after the purge", buf[:n], err)
	}
	if n, err := port.Read(nil); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := port.Read(buf)
		failed <- err
	}()
	port.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the read that Close unblocked: %v", err)
	}
	if _, err := port.Write(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if err := port.Drain(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("drain after Close: %v", err)
	}
	if err := port.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestPortStuckDevice: a device that takes nothing holds up writes, and neither
// purges nor Close.
func TestPortStuckDevice(t *testing.T) {
	edge := newReal(t, base+fmt.Sprintf(stickRule, tty(t), ""))
	edge.start()
	edge.until("the stick is published", edge.available("stick"))
	port, err := edge.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	wrote := make(chan int, 1)
	full := make(chan struct{})
	go func() {
		total := 0
		chunk := make([]byte, 64<<10)
		for range 8 { // 512 KiB: more than the windows on the way hold
			n, err := port.Write(chunk)
			total += n
			if err != nil {
				break
			}
			if total == 256<<10 {
				close(full)
			}
		}
		wrote <- total
	}()
	<-full
	for written := -1; written < 0; {
		if err := port.ResetOutputBuffer(); err != nil {
			t.Fatal(err)
		}
		select {
		case written = <-wrote:
			if written != 512<<10 {
				t.Errorf("%d bytes were written", written)
			}
		default:
		}
	}
	began := time.Now()
	port.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// TestPortRefused: each refusal has its code, and says what to do.
func TestPortRefused(t *testing.T) {
	edge := newReal(t, base+fmt.Sprintf(stickRule, ttyStick(t), ", busy: refuse"))
	edge.start()
	edge.until("the stick is published", edge.available("stick"))
	open := func(name string, o client.PortOptions) error {
		p, err := edge.ctl.OpenPort(t.Context(), name, o)
		if err == nil {
			p.Close()
		}
		return err
	}
	holder, err := edge.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	for _, test := range []struct {
		name, device string
		options      client.PortOptions
		is           error
		code         serial.PortErrorCode
		says         string
	}{
		{"unknown", "stack", client.PortOptions{}, client.NotFound, serial.PortNotFound, "stack"},
		{"unknown owner", "stick", client.PortOptions{Owner: "attic"}, client.NotFound, serial.PortNotFound, "stick@attic"},
		{"two owners", "stick@garage", client.PortOptions{Owner: "attic"}, client.Invalid, 0, "attic"},
		{"busy", "stick", client.PortOptions{}, client.Busy, serial.PortBusy, "garage"},
		{"mode of a reader", "stick", client.PortOptions{ReadOnly: true, Mode: &serial.Mode{}}, client.Invalid, 0, "Mode"},
	} {
		err := open(test.device, test.options)
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if e, ok := errors.AsType[*client.PortError](err); ok && e.Code() != test.code || !ok && test.is != client.Invalid {
			t.Errorf("%s: code of %v", test.name, err)
		}
	}
	reader, err := edge.ctl.OpenPort(t.Context(), "stick", client.PortOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if a := ask(t, holder, "PING both"); a != "PONG both" {
		t.Errorf("answer %q", a)
	}
	if a, err := bufio.NewReader(reader).ReadString('\n'); err != nil || a != "PONG both\r\n" {
		t.Errorf("who reads along read %q, %v", a, err)
	}
	for what, err := range map[string]error{
		"write": func() error { _, err := reader.Write([]byte("x")); return err }(), "line": reader.SetMode(&serial.Mode{}),
		"DTR": reader.SetDTR(true), "break": reader.Break(time.Second), "purge": reader.ResetOutputBuffer(),
	} {
		if e, ok := errors.AsType[*client.PortError](err); !ok || e.Code() != serial.PermissionDenied {
			t.Errorf("%s of who reads along: %v", what, err)
		}
	}
	if err := open("stick", client.PortOptions{Take: client.TakeForce}); err != nil {
		t.Errorf("taken by force: %v", err)
	}
}

// TestPortAgentStops: the agent goes away while a port is open.
func TestPortAgentStops(t *testing.T) {
	r, _ := pinnedStick(t)
	port, err := r.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	port.Write([]byte("x"))
	if _, err := io.ReadFull(port, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	_, err = port.Read(make([]byte, 1))
	if e, ok := errors.AsType[*client.PortError](err); !ok || e.Code() != serial.PortClosed || !errors.Is(err, client.Stopping) || !strings.Contains(err.Error(), `"stick"`) {
		t.Errorf("read: %v", err)
	}
	if _, err := port.Write([]byte("x")); !errors.Is(err, client.Stopping) {
		t.Errorf("write: %v", err)
	}
	if err := port.Drain(); !errors.Is(err, client.Stopping) {
		t.Errorf("drain: %v", err)
	}
}

// TestPortUnreadData: bytes that nobody reads hold up no answer.
func TestPortUnreadData(t *testing.T) {
	r, device := pinnedStick(t)
	port, err := r.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	sent := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{7})
	random.Read(sent)
	echo := device.Port.(*echo)
	echo.TryWrite(sent) // the device sends it
	if err := errors.Join(port.SetMode(&serial.Mode{BaudRate: 38400}), port.SetDTR(false), port.Drain()); err != nil {
		t.Fatal(err)
	}
	if err := port.SetMode(&serial.Mode{BaudRate: 921600}); err == nil {
		t.Error("the device did not say no")
	}
	have := make([]byte, len(sent))
	if _, err := io.ReadFull(port, have); err != nil || !bytes.Equal(have, sent) {
		t.Errorf("bytes changed on the way, %v", err)
	}
}

// holderVariable makes this test's program hold a port until it is killed.
const holderVariable = "SERIALSPAN_TEST_HOLD_PORT"

// TestPortHolder is the program that TestPortKilled kills.
func TestPortHolder(t *testing.T) {
	socket := os.Getenv(holderVariable)
	if socket == "" {
		return // it is no test on its own
	}
	port, err := client.New(client.Config{Socket: socket}).OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("HOLDS")
	port.Read(make([]byte, 1))
}

// TestPortKilled: a program that dies with a port open has released it.
func TestPortKilled(t *testing.T) {
	edge := newReal(t, base+fmt.Sprintf(stickRule, ttyStick(t), ", busy: refuse"))
	edge.start()
	edge.until("the stick is published", edge.available("stick"))
	program := exec.Command(os.Args[0], "-test.run=^TestPortHolder$", "-test.v")
	program.Env = append(os.Environ(), holderVariable+"="+filepath.Join(edge.dir, "s"))
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "HOLDS"; {
	}
	if _, err := edge.ctl.OpenPort(t.Context(), "stick", client.PortOptions{}); !errors.Is(err, client.Busy) {
		t.Fatalf("it does not hold the port: %v", err)
	}
	program.Process.Kill()
	program.Wait()
	edge.until("the port is released", edge.available("stick"))
	port, err := edge.ctl.OpenPort(t.Context(), "stick", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port.Close()
}
