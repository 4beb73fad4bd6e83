package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
)

// rememberedEnds is how many ended consoles can still be asked about.
const rememberedEnds = 64

// consoles counts running consoles and remembers why the last ones ended, so
// that the reason travels beside the stream and never in it.
type consoles struct {
	running sync.WaitGroup

	mu   sync.Mutex // guards the fields below
	last uint64
	ends map[uint64]*client.Error
}

func (c *consoles) start() uint64 {
	c.running.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	return c.last
}

func (c *consoles) end(id uint64, reason *client.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends = map[uint64]*client.Error{}
	}
	c.ends[id] = reason
	for len(c.ends) > rememberedEnds {
		oldest := id
		for other := range c.ends {
			oldest = min(oldest, other)
		}
		delete(c.ends, oldest)
	}
}

// why returns the reason of an end, nil for a plain end or an unknown console.
func (c *consoles) why(text string) *client.Error {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends[id]
}

func (c *consoles) stop() { c.running.Wait() }

// console opens a device for raw bytes.
func (s *server) console(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	var take client.Take
	if err := take.UnmarshalText([]byte(r.URL.Query().Get("take"))); err != nil {
		refuse(w, client.Errorf(client.Invalid, "", "open console: %v", err))
		return
	}
	s.stream(ctx, w, r, client.Upgrade, func(device string) (io.ReadWriteCloser, error) {
		return s.config.Agent.Console(r.Context(), device, take)
	})
}

// monitor opens a device to read along.
func (s *server) monitor(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	s.stream(ctx, w, r, client.UpgradeMonitor, func(device string) (io.ReadWriteCloser, error) {
		records, err := s.config.Agent.Monitor(r.Context(), device)
		return readOnly{records}, err
	})
}

// readOnly takes what a client writes, for nobody.
type readOnly struct{ io.ReadCloser }

func (readOnly) Write(p []byte) (int, error) { return len(p), nil }

// stream opens the device of a request, switches protocols and carries bytes
// until either side ends or the server stops (ctx).
func (s *server) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, upgrade string, open func(device string) (io.ReadWriteCloser, error)) {
	device, ok := upgradeOf(w, r, upgrade)
	if !ok {
		return
	}
	raw, err := open(device)
	if err != nil {
		refuse(w, err)
		return
	}
	defer raw.Close()
	id := s.consoles.start()
	defer s.consoles.running.Done()
	conn, reader, err := s.hijack(w, upgrade, client.ConsoleHeader+": "+strconv.FormatUint(id, 10)+"\r\n")
	if err != nil {
		return // the client has gone
	}
	defer conn.Close()
	s.logger.Debug("stream opened", "device", device, "request", r.URL.Path)
	reason := carry(ctx, conn, reader, raw)
	s.consoles.end(id, reason)
	s.logger.Debug("stream closed", "device", device, "request", r.URL.Path)
}

// upgradeOf returns the device of a request to switch protocols, or refuses it.
func upgradeOf(w http.ResponseWriter, r *http.Request, upgrade string) (device string, ok bool) {
	device = r.URL.Query().Get("device")
	if device == "" || !strings.EqualFold(r.Header.Get("Upgrade"), upgrade) {
		refuse(w, client.Errorf(client.Invalid, "", "open %s: want ?device=NAME and the header Upgrade: %s", path.Base(r.URL.Path), upgrade))
		return "", false
	}
	return device, true
}

// hijack switches protocols; headers are further lines of the 101. The reader
// may hold bytes that came with the request.
func (s *server) hijack(w http.ResponseWriter, upgrade, headers string) (net.Conn, *bufio.Reader, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, err)
		return nil, nil, err
	}
	buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\n" + headers + "\r\n")
	if err := buffered.Flush(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, buffered.Reader, nil
}

// carry copies both ways until one side ends. It returns why the device ended,
// nil if the client did or the end was a plain one. The caller closes conn
// after it has noted the reason; raw is closed on return.
func carry(ctx context.Context, conn net.Conn, fromClient *bufio.Reader, raw io.ReadWriteCloser) *client.Error {
	var toDevice error // written before copied is closed
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		defer raw.Close()
		device := &noted{Writer: raw}
		io.Copy(device, fromClient)
		toDevice = device.err
	}()
	stop := context.AfterFunc(ctx, func() {
		raw.Close()
		conn.SetDeadline(time.Unix(1, 0))
	})
	device := &notedReader{Reader: raw}
	io.Copy(conn, device)
	raw.Close()
	stopped := !stop()
	// Unblock the other direction without ending the connection: the client
	// must not see its end before the reason is noted.
	conn.(interface{ CloseRead() error }).CloseRead()
	<-copied
	switch {
	case stopped:
		return client.Errorf(client.Stopping, "", "read from device: the agent is stopping")
	case device.err != nil && !isClosed(device.err):
		return client.AsError(device.err)
	case toDevice != nil && !isClosed(toDevice):
		return client.AsError(toDevice)
	}
	return nil
}

func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// noted remembers the error of a Writer, which io.Copy mixes with that of the
// reader.
type noted struct {
	io.Writer
	err error
}

func (n *noted) Write(p []byte) (int, error) {
	count, err := n.Writer.Write(p)
	n.err = err
	return count, err
}

// notedReader remembers the error of a Reader, io.EOF apart.
type notedReader struct {
	io.Reader
	err error
}

func (n *notedReader) Read(p []byte) (int, error) {
	count, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return count, err
}
