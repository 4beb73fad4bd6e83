package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/portwire"
)

// PortOptions say how a program wants a port.
type PortOptions struct {
	Line     line.Settings // zero: the device's own; without flow control: that of the device
	Take     client.Take
	Kind     client.Kind
	ReadOnly bool
	Changed  func() // State may say something new; it does not block
}

// Port is a device that a program has open through the agent. Next, Write and
// Do, and the others, may run at the same time. Close unblocks them; it gives
// what was written a moment.
type Port interface {
	// Next blocks for bytes into p, or for a gap. Its error says why the device
	// was lost; io.EOF and net.ErrClosed are plain ends.
	Next(p []byte) (PortPiece, error)
	Write(p []byte) (int, error)
	// Do does what a request asks for, other than a purge, after what was
	// written before, and returns when the device's node has done it.
	Do(ctx context.Context, request portwire.Frame) error
	// Purge drops bytes at once, as far as they are here, and asks the device's
	// node to; it does not wait. Purged does, and returns up to which End pieces
	// of Next are from before.
	Purge(bits uint8) error
	Purged(ctx context.Context, bits uint8) (end uint64, err error)
	// State is a portwire.State.
	State() portwire.Frame
	Close() error
}

// PortPiece is N bytes or, if N is 0, a gap.
type PortPiece struct {
	N   int
	End uint64         // bytes that have left the port so far, with this piece
	Gap portwire.Frame // a portwire.Gap
}

// ports opens a device as a port.
func (s *server) ports(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	o := PortOptions{Kind: client.Kind(query.Get("kind")), ReadOnly: query.Get("read_only") == "1"}
	if o.Kind == "" {
		o.Kind = client.KindPort
	}
	err := errors.Join(o.Take.UnmarshalText([]byte(query.Get("take"))), o.Line.UnmarshalText([]byte(query.Get("line"))))
	if err == nil && len(o.Kind) > 32 {
		err = errors.New("kind of more than 32 bytes")
	}
	if err != nil {
		refuse(w, client.Errorf(client.Invalid, "", "open port: %v", err))
		return
	}
	device, ok := upgradeOf(w, r, client.UpgradePort)
	if !ok {
		return
	}
	changed := make(chan struct{}, 1)
	o.Changed = func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	port, err := s.config.Agent.OpenPort(r.Context(), device, o)
	if err != nil {
		refuse(w, err)
		return
	}
	s.consoles.running.Add(1)
	defer s.consoles.running.Done()
	conn, reader, err := s.hijack(w, client.UpgradePort, "")
	if err != nil {
		port.Close()
		return // the client has gone
	}
	defer conn.Close()
	s.logger.Debug("port opened", "device", device)
	newPortConn(conn, device, port).serve(ctx, reader, changed)
	s.logger.Debug("port closed", "device", device)
}

// portLinger bounds how long what a program wrote before it closed waits for
// its turn; Port.Close has a time of its own for the rest.
const portLinger = 2 * time.Second

// serve carries frames until the program closes or dies, the device is lost, or
// ctx ends. The port is closed on return, and the program told why.
//
// Three goroutines work beside the reader of the connection: work does what was
// queued, pump reads the device, tell the state. All have ended on return.
func (c *portConn) serve(ctx context.Context, r io.Reader, changed <-chan struct{}) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.tell()
	c.grant(portWindow)
	c.workers.Go(func() { c.work(ctx) })
	c.workers.Go(func() { cancel(c.pump()) })
	c.workers.Go(func() {
		for {
			select {
			case <-changed:
				c.tell()
			case <-ctx.Done():
				return
			}
		}
	})
	stop := context.AfterFunc(ctx, func() {
		c.port.Close()
		c.finish(true)
		c.conn.(interface{ CloseRead() error }).CloseRead()
	})
	err := c.read(r)
	if err == nil { // the program closed: what it wrote before is still to go
		c.finish(false)
		select {
		case <-c.worked:
		case <-ctx.Done():
		case <-time.After(portLinger):
		}
	} else {
		cancel(err)
	}
	c.port.Close()
	if stop() {
		cancel(net.ErrClosed)
		c.finish(true)
	}
	// A program that does not read keeps nobody here; its end is worth a try.
	c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	c.workers.Wait()
	c.farewell(context.Cause(ctx))
}

// farewell tells the program why it is over.
func (c *portConn) farewell(cause error) {
	f := portwire.Frame{Type: portwire.End}
	switch {
	case errors.Is(cause, context.Canceled):
		cause = client.Errorf(client.Stopping, "start it with \"serialspan agent\"", "read from device %q: the agent is stopping", c.device)
		fallthrough
	case cause != nil && !isClosed(cause) && !errors.Is(cause, io.EOF):
		f = failureFrame(f, cause)
	}
	c.send(f)
}

// failureFrame puts an error into an ANSWER or END.
func failureFrame(f portwire.Frame, err error) portwire.Frame {
	failure := client.AsError(err)
	f.Code, f.Text, f.Next = uint8(failure.Code), failure.Text, failure.Next
	return f
}
