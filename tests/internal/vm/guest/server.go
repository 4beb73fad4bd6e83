package main

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// chunk is how much of a stream goes into one message, in bytes.
const chunk = 32 << 10

// server does what the test asks. run reads; each call has a goroutine.
type server struct {
	in *gob.Decoder

	writing sync.Mutex
	buffer  *bufio.Writer
	out     *gob.Encoder

	mu    sync.Mutex
	calls map[uint64]*call
}

// call is one that has not ended. Its input is written by run.
type call struct {
	id      uint64
	server  *server
	input   io.WriteCloser // nil: it takes none
	process *os.Process    // of wire.Run
}

func newServer(port io.ReadWriter) *server {
	buffer := bufio.NewWriterSize(port, chunk)
	return &server{in: gob.NewDecoder(bufio.NewReaderSize(port, chunk)), buffer: buffer, out: gob.NewEncoder(buffer), calls: map[uint64]*call{}}
}

func (s *server) run() error {
	if err := s.send(wire.Message{}); err != nil {
		return err
	}
	for {
		var m wire.Message
		if err := s.in.Decode(&m); err != nil {
			return fmt.Errorf("the test is gone: %w", err)
		}
		if m.Start != nil {
			s.start(m.Call, *m.Start)
			continue
		}
		s.mu.Lock()
		c := s.calls[m.Call]
		s.mu.Unlock()
		if c == nil || c.input == nil {
			continue // it has ended
		}
		_, _ = c.input.Write(m.Data)
		if m.EOF {
			_ = c.input.Close()
		}
	}
}

func (s *server) send(m wire.Message) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.out.Encode(m); err != nil {
		return err
	}
	return s.buffer.Flush()
}

// start begins a call; what the host sends for it next finds its input.
func (s *server) start(id uint64, start wire.Start) {
	c := &call{id: id, server: s}
	work, err := c.prepare(start)
	if err != nil {
		c.end(0, err)
		return
	}
	s.mu.Lock()
	s.calls[id] = c
	s.mu.Unlock()
	go func() {
		code, err := work()
		s.mu.Lock()
		delete(s.calls, id)
		s.mu.Unlock()
		c.end(code, err)
	}()
}

func (c *call) end(code int, err error) {
	end := &wire.End{Code: code}
	if err != nil {
		end.Error = err.Error()
	}
	_ = c.server.send(wire.Message{Call: c.id, End: end})
}

// prepare returns the work of a call; what can fail at once, fails here.
func (c *call) prepare(start wire.Start) (func() (int, error), error) {
	switch start.Kind {
	case wire.Run:
		return c.prepareRun(start.Args)
	case wire.Signal:
		return func() (int, error) { return 0, c.server.signal(start.Target, unix.Signal(start.Number)) }, nil
	case wire.Read:
		f, err := os.Open(start.Path)
		if err != nil {
			return nil, err
		}
		return func() (int, error) {
			defer f.Close()
			_, err := io.Copy(c.stream(wire.Stdout), f)
			return 0, err
		}, nil
	case wire.Write:
		return c.prepareWrite(start.Path, os.FileMode(start.Number))
	case wire.Dial:
		conn, err := net.Dial(start.Args[0], start.Args[1])
		if err != nil {
			return nil, err
		}
		return c.pump(conn), nil
	case wire.USB:
		conn, err := attachUSB(start.Number)
		if err != nil {
			return nil, err
		}
		return c.pump(conn), nil
	case wire.PowerOff:
		powerOff()
	}
	return nil, fmt.Errorf("unknown call %d", start.Kind)
}

func (c *call) prepareRun(args []string) (func() (int, error), error) {
	if len(args) == 0 {
		return nil, errors.New("run: no program")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = c.stream(wire.Stdout), c.stream(wire.Stderr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.process = cmd.Process
	return func() (int, error) {
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode(), nil
		}
		return 0, err
	}, nil
}

func (s *server) signal(target uint64, number unix.Signal) error {
	s.mu.Lock()
	c := s.calls[target]
	s.mu.Unlock()
	if c == nil || c.process == nil {
		return os.ErrProcessDone
	}
	return c.process.Signal(number)
}

func (c *call) prepareWrite(path string, mode os.FileMode) (func() (int, error), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	c.input = writer
	return func() (int, error) {
		_, err := io.Copy(f, reader)
		_ = reader.CloseWithError(err) // who still writes is not held up
		return 0, errors.Join(err, f.Chmod(mode), f.Close())
	}, nil
}

// pump carries the stream of a call until either side ends it.
func (c *call) pump(conn net.Conn) func() (int, error) {
	c.input = conn
	return func() (int, error) {
		_, err := io.Copy(c.stream(wire.Stdout), conn)
		_ = conn.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		return 0, err
	}
}

// stream is a writer of one stream of the call.
func (c *call) stream(s wire.Stream) io.Writer { return &outStream{c, s} }

type outStream struct {
	call   *call
	stream wire.Stream
}

// Write implements io.Writer.
func (o *outStream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += chunk {
		err := o.call.server.send(wire.Message{Call: o.call.id, Stream: o.stream, Data: p[n:min(len(p), n+chunk)]})
		if err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// vhci is the virtual USB host controller.
const vhci = "/sys/devices/platform/vhci_hcd.0"

// attachUSB plugs in the device whose URBs come over the connection returned.
func attachUSB(speed uint32) (net.Conn, error) {
	port, err := freeUSBPort()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, kernels := os.NewFile(uintptr(pair[0]), "usb"), os.NewFile(uintptr(pair[1]), "usb")
	defer ours.Close()
	defer kernels.Close() // the controller holds it
	text := fmt.Sprintf("%d %d %d %d", port, pair[1], 1<<16|port+1, speed)
	if err := os.WriteFile(vhci+"/attach", []byte(text), 0); err != nil {
		return nil, fmt.Errorf("attach USB device: %w", err)
	}
	return net.FileConn(ours)
}

// freeUSBPort reads the controller's table: "hs PORT STATE …", state 4 is free.
func freeUSBPort() (int, error) {
	text, err := os.ReadFile(vhci + "/status")
	if err != nil {
		return 0, fmt.Errorf("find a USB port: is vhci-hcd loaded? %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var port, state int
		if n, _ := fmt.Sscanf(line, "hs %d %d", &port, &state); n == 2 && state == 4 {
			return port, nil
		}
	}
	return 0, errors.New("find a USB port: none is free")
}
