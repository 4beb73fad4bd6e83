package vm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/usbip"
	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// Run runs a program in the guest and returns its standard output. The error of
// a failed one holds its standard error, and unwraps to ErrOff where the
// machine went off meanwhile.
func (v *VM) Run(args ...string) (string, error) {
	return v.Spawn(args...).Wait()
}

// MustRun is Run for a program that has to succeed.
func (v *VM) MustRun(args ...string) string {
	v.tb.Helper()
	out, err := v.Run(args...)
	if err != nil {
		v.tb.Fatalf("on %s: %v", v.config.Name, err)
	}
	return out
}

// Process is a program that runs in the guest.
type Process struct {
	call *call
	args []string
}

// Spawn starts a program; a failure is Wait's.
func (v *VM) Spawn(args ...string) *Process {
	return &Process{call: v.control.start(wire.Start{Kind: wire.Run, Args: args}), args: args}
}

// Output returns what it has written to standard output and to standard error
// so far; also after the machine went off.
func (p *Process) Output() (stdout, stderr string) {
	return p.call.output(wire.Stdout), p.call.output(wire.Stderr)
}

// Signal sends it a signal.
func (p *Process) Signal(s unix.Signal) error {
	_, err := p.call.control.start(wire.Start{Kind: wire.Signal, Target: p.call.id, Number: uint32(s)}).wait()
	return err
}

// Wait waits for its end and returns as Run does.
func (p *Process) Wait() (string, error) {
	code, err := p.call.wait()
	stdout, stderr := p.Output()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d", code)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(p.args, " "), err, strings.TrimSpace(stderr))
	}
	return stdout, err
}

// Running tells whether it has not ended.
func (p *Process) Running() bool {
	p.call.mu.Lock()
	defer p.call.mu.Unlock()
	return !p.call.ended
}

// ReadFile returns a file of the guest.
func (v *VM) ReadFile(path string) ([]byte, error) {
	call := v.control.start(wire.Start{Kind: wire.Read, Path: path})
	if _, err := call.wait(); err != nil {
		return nil, fmt.Errorf("read from %s: %w", v.config.Name, err)
	}
	return []byte(call.output(wire.Stdout)), nil
}

// WriteFile writes a file of the guest, with the folders above it.
func (v *VM) WriteFile(path string, data []byte, mode fs.FileMode) error {
	call := v.control.start(wire.Start{Kind: wire.Write, Path: path, Number: uint32(mode.Perm())})
	_, err := call.Write(data)
	if err == nil {
		err = call.closeWrite()
	}
	if _, waitErr := call.wait(); waitErr != nil {
		err = waitErr
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", v.config.Name, err)
	}
	return nil
}

// Forward returns a unix socket here that leads to one in the guest, which need
// not be there yet.
func (v *VM) Forward(socket string) string {
	v.tb.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	path := v.path(fmt.Sprintf("forward%d", len(v.closes)))
	listener, err := net.Listen("unix", path)
	if err != nil {
		v.tb.Fatalf("forward %s: %v", socket, err)
	}
	open := &openConns{all: map[net.Conn]bool{}}
	v.closes = append(v.closes, func() {
		_ = listener.Close()
		open.close()
	})
	v.joined.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if !open.add(conn) {
				return
			}
			v.joined.Go(func() {
				defer open.remove(conn)
				splice(conn, v.control.start(wire.Start{Kind: wire.Dial, Args: []string{"unix", socket}}))
			})
		}
	})
	return path
}

// splice carries bytes both ways until either side ends.
func splice(here net.Conn, there *call) {
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(here, there)
		_ = here.Close()
	})
	_, _ = io.Copy(there, here)
	_ = there.Close()
	back.Wait()
}

// openConns are connections to be closed.
type openConns struct {
	mu     sync.Mutex
	all    map[net.Conn]bool
	closed bool
}

func (o *openConns) add(c net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		_ = c.Close()
		return false
	}
	o.all[c] = true
	return true
}

func (o *openConns) remove(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = c.Close()
	delete(o.all, c)
}

func (o *openConns) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for c := range o.all {
		_ = c.Close()
	}
}

// PlugUSB plugs the device in. The function returned unplugs it and returns
// when the device knows; the end of the machine does it too.
func (v *VM) PlugUSB(device *usbip.Device) (unplug func()) {
	v.tb.Helper()
	stream := v.control.start(wire.Start{Kind: wire.USB, Number: usbip.Speed})
	done := make(chan struct{})
	v.joined.Go(func() {
		defer close(done)
		err := device.Serve(stream)
		_ = stream.Close()
		if err != nil && !errors.Is(err, net.ErrClosed) {
			v.tb.Errorf("USB device on %s: %v", v.config.Name, err)
		}
	})
	return func() {
		_ = stream.Close()
		<-done
	}
}

// Shutdown lets the guest write what is to be written, turns it off and waits.
func (v *VM) Shutdown() {
	v.tb.Helper()
	if _, err := v.control.start(wire.Start{Kind: wire.PowerOff}).wait(); !errors.Is(err, ErrOff) {
		v.tb.Errorf("shut %s down: %v", v.config.Name, err)
	}
	v.Kill()
}
