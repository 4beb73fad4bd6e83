package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

// TestConsoleCarriesEveryByte: 64 KiB of random bytes there and back.
func TestConsoleCarriesEveryByte(t *testing.T) {
	c := client.New(client.Config{Socket: serve(t, newAgent())})
	raw, err := c.OpenRaw(t.Context(), "garage-zwave", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	sent := make([]byte, 64<<10)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(sent)
	wrote := make(chan error, 1)
	go func() {
		_, err := raw.Write(sent)
		wrote <- err
	}()
	have := make([]byte, len(sent))
	if _, err := io.ReadFull(raw, have); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil || !bytes.Equal(have, sent) {
		t.Errorf("bytes changed on the way, %v", err)
	}
}

// TestConsoleEnd: why a console ended arrives beside the stream, and what the
// device sent before arrives first.
func TestConsoleEnd(t *testing.T) {
	kicked := client.Errorf(client.Kicked, "take it back with --take", "read from \"garage-zwave\": the node attic took it")
	for _, test := range []struct {
		name string
		end  error
		want error
	}{
		{"plain", io.EOF, io.EOF},
		{"kicked", kicked, client.Kicked},
		{"any error", errors.New("broken"), client.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			agent := newAgent()
			agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
				reader, writer := io.Pipe()
				go func() {
					writer.Write([]byte("last words"))
					writer.CloseWithError(test.end)
				}()
				return sink{reader}, nil
			}
			c := client.New(client.Config{Socket: serve(t, agent)})
			raw, err := c.OpenRaw(t.Context(), "garage-zwave", client.TakePolite)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			var got bytes.Buffer
			buf := make([]byte, 100)
			for {
				n, err := raw.Read(buf)
				got.Write(buf[:n])
				if err != nil {
					if !errors.Is(err, test.want) {
						t.Errorf("ended with %v, want %v", err, test.want)
					}
					if _, again := raw.Read(buf); again != err {
						t.Errorf("read again: %v", again)
					}
					break
				}
			}
			if got.String() != "last words" {
				t.Errorf("read %q", got.String())
			}
		})
	}
}

// sink reads from a pipe and drops what is written.
type sink struct{ *io.PipeReader }

func (sink) Write(p []byte) (int, error) { return len(p), nil }

func TestConsoleRefused(t *testing.T) {
	agent := newAgent()
	var took client.Take
	agent.Open = func(_ string, take client.Take) (io.ReadWriteCloser, error) {
		took = take
		return nil, client.Errorf(client.Busy, "say --take", "open \"garage-zwave\": in use by attic")
	}
	c := client.New(client.Config{Socket: serve(t, agent)})
	_, err := c.OpenRaw(t.Context(), "garage-zwave", client.TakeForce)
	if !errors.Is(err, client.Busy) || took != client.TakeForce {
		t.Errorf("have %v with take %v", err, took)
	}
	if _, err := c.OpenRaw(t.Context(), "", client.TakeForce); !errors.Is(err, client.Invalid) {
		t.Errorf("no device: %v", err)
	}
}

// TestConsoleCloseReleases: when the client closes, so is the device.
func TestConsoleCloseReleases(t *testing.T) {
	agent := newAgent()
	here, there := net.Pipe()
	defer here.Close()
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) { return there, nil }
	c := client.New(client.Config{Socket: serve(t, agent)})
	raw, err := c.OpenRaw(t.Context(), "garage-zwave", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	raw.Close()
	if _, err := raw.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := here.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the device's end: %v", err)
	}
}

// TestConsoleStops: the server's end ends consoles, even one whose client does
// not read, and says so.
func TestConsoleStops(t *testing.T) {
	agent := newAgent()
	flood, opened := make(chan struct{}), make(chan struct{}, 1)
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
		opened <- struct{}{}
		return &flooder{stop: flood}, nil
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := run(t, control.Config{Agent: agent, Socket: socket})
	c := client.New(client.Config{Socket: socket})
	raw, err := c.OpenRaw(t.Context(), "garage-zwave", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	<-opened
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, raw); !errors.Is(err, client.Stopping) {
		t.Errorf("ended with %v", err)
	}
}

// flooder sends without end until it is closed.
type flooder struct{ stop chan struct{} }

func (f *flooder) Read(p []byte) (int, error) {
	select {
	case <-f.stop:
		return 0, net.ErrClosed
	default:
		return len(p), nil
	}
}

func (f *flooder) Write(p []byte) (int, error) { return len(p), nil }

func (f *flooder) Close() error {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	return nil
}

// TestOpenRawContext: the context governs the opening, and only that.
func TestOpenRawContext(t *testing.T) {
	agent := newAgent()
	asked, answer := make(chan struct{}), make(chan struct{})
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
		close(asked)
		<-answer
		return nil, errors.New("late")
	}
	c := client.New(client.Config{Socket: serve(t, agent)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.OpenRaw(ctx, "garage-zwave", client.TakeNormal); !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
	close(answer)

	c = client.New(client.Config{Socket: serve(t, newAgent())})
	ctx, cancel = context.WithCancel(t.Context())
	raw, err := c.OpenRaw(ctx, "garage-zwave", client.TakeNormal)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	cancel()
	if _, err := raw.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(raw, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

var _ control.Agent = (*controltest.Agent)(nil)
