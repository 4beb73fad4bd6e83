package control_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.bug.st/serial"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/portwire"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
)

// wire is a program that speaks frames itself, as it likes.
type wire struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
}

func dialPort(t *testing.T, socket string) *wire {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST /v1/ports?device=garage-zwave HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: "+client.UpgradePort+"\r\n\r\n")
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", answer, err)
	}
	return &wire{t: t, conn: conn, r: r}
}

func (w *wire) send(frames ...portwire.Frame) {
	var b []byte
	for _, f := range frames {
		b = portwire.Append(b, f)
	}
	w.conn.Write(b)
}

// next returns the next frame.
func (w *wire) next() portwire.Frame {
	w.t.Helper()
	for {
		f, size, err := portwire.Decode(w.buf)
		if err != nil {
			w.t.Fatal(err)
		}
		if size > 0 {
			f.Data = append([]byte(nil), f.Data...)
			w.buf = w.buf[size:]
			return f
		}
		more := make([]byte, 4096)
		n, err := w.r.Read(more)
		if err != nil {
			w.t.Fatalf("read frame: %v", err)
		}
		w.buf = append(w.buf, more[:n]...)
	}
}

// until returns the next frame of a type.
func (w *wire) until(want portwire.Type) portwire.Frame {
	w.t.Helper()
	for {
		if f := w.next(); f.Type == want {
			return f
		}
	}
}

// TestPortWire: what the frames promise a program in any language.
func TestPortWire(t *testing.T) {
	w := dialPort(t, serve(t, newAgent()))
	if f := w.next(); f.Type != portwire.State || f.Line != "115200n81" {
		t.Errorf("first comes %+v", f)
	}
	if f := w.next(); f.Type != portwire.Window || f.Count == 0 {
		t.Errorf("then %+v", f)
	}
	w.send(portwire.Frame{Type: portwire.Data, Data: []byte("0123456789")}, portwire.Frame{Type: portwire.Window, Count: 4})
	if f := w.next(); f.Type != portwire.Data || string(f.Data) != "0123" {
		t.Errorf("window of 4: %+v", f)
	}
	w.send(portwire.Frame{Type: portwire.Request, ID: 7, Op: portwire.OpLine, Line: "9600n81"})
	if f := w.next(); f.Type != portwire.State || f.Line != "9600n81" {
		t.Errorf("before the answer: %+v", f)
	}
	if f := w.next(); f.Type != portwire.Answer || f.ID != 7 || f.Code != 0 {
		t.Errorf("the answer: %+v", f)
	}
	w.send(portwire.Frame{Type: portwire.Window, Count: 100})
	if f := w.next(); f.Type != portwire.Data || string(f.Data) != "456789" {
		t.Errorf("window of 100: %+v", f)
	}
	w.conn.(*net.UnixConn).CloseWrite()
	if f := w.next(); f.Type != portwire.End || f.Code != 0 {
		t.Errorf("the end: %+v", f)
	}
	if _, err := w.r.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// TestPortWireAbuse: a program that breaks the rules is told and ended, and its
// device released.
func TestPortWireAbuse(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(w *wire)
	}{
		{"no frame", func(w *wire) { io.WriteString(w.conn, "\x00\x00\x00") }},
		{"more bytes than allowed", func(w *wire) {
			for range 20 {
				w.send(portwire.Frame{Type: portwire.Data, Data: make([]byte, portwire.MaxData)})
			}
		}},
		{"requests without end", func(w *wire) {
			w.send(portwire.Frame{Type: portwire.Data, Data: []byte("x")}) // which nobody takes
			for range 100 << 10 {
				w.send(portwire.Frame{Type: portwire.Request, ID: 1, Op: portwire.OpDrain})
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			agent := newAgent()
			here, there := net.Pipe() // nobody reads here
			agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) { return there, nil }
			w := dialPort(t, serve(t, agent))
			go test.send(w)
			if f := w.until(portwire.End); client.Code(f.Code) != client.Invalid {
				t.Errorf("ended with %+v", f)
			}
			if _, err := io.Copy(io.Discard, here); err != nil { // until it is closed
				t.Error(err)
			}
		})
	}
}

// TestPortGone: an agent that vanishes without a word ends reads, and says so.
func TestPortGone(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+client.UpgradePort+"\r\n\r\n")
		conn.Write(portwire.Append(nil, portwire.Frame{Type: portwire.State}))
		accepted <- conn
	}()
	port, err := client.New(client.Config{Socket: listener.Addr().String()}).OpenPort(t.Context(), "garage-zwave", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	(<-accepted).Close()
	_, err = port.Read(make([]byte, 1))
	if e, ok := errors.AsType[*client.PortError](err); !ok || e.Code() != serial.PortClosed || !strings.Contains(err.Error(), "the agent stopped") {
		t.Errorf("read: %v", err)
	}
	if err := port.Drain(); !errors.Is(err, client.Stopping) {
		t.Errorf("drain: %v", err)
	}
}

// TestPortStops: the server's end ends ports, and says so.
func TestPortStops(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := run(t, control.Config{Agent: newAgent(), Socket: socket})
	port, err := client.New(client.Config{Socket: socket}).OpenPort(t.Context(), "garage-zwave", client.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, port); !errors.Is(err, client.Stopping) {
		t.Errorf("ended with %v", err)
	}
}
