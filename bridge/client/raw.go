package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// OpenRaw opens a device for reading and writing raw bytes; ctx governs the
// opening only. Nothing but the device's bytes is read. A short outage of the
// way to the device is not seen; when the device is lost for good, or another
// consumer takes it, Read returns an *Error that says so, io.EOF on a plain
// end. Close releases the device; it unblocks Read and Write, which then
// return net.ErrClosed.
func (c *Client) OpenRaw(ctx context.Context, device string, take Take) (io.ReadWriteCloser, error) {
	raw, err := c.open(ctx, "/v1/console", url.Values{"device": {device}, "take": {take.String()}}, Upgrade)
	if err != nil {
		return nil, err
	}
	return raw, nil
}

func (c *Client) open(ctx context.Context, path string, query url.Values, protocol string) (*rawConn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, c.failure(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	raw, err := c.upgrade(conn, path+"?"+query.Encode(), protocol)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, c.failure(err)
	}
	return raw, nil
}

func (c *Client) upgrade(conn net.Conn, path, protocol string) (*rawConn, error) {
	request, err := http.NewRequest(http.MethodPost, "http://agent"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", protocol)
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return nil, err
		}
		return nil, errorOf(response.StatusCode, data)
	}
	return &rawConn{Conn: conn, reader: reader, client: c, id: response.Header.Get(ConsoleHeader)}, nil
}

// rawConn is the connection after the upgrade. One goroutine may read while
// another writes, and any may close.
type rawConn struct {
	net.Conn
	reader *bufio.Reader // may hold bytes that came with the 101
	client *Client
	id     string

	once sync.Once // guards end
	end  error
}

// endTimeout bounds the question why a console ended.
const endTimeout = 2 * time.Second

// Read reads the device's bytes; its end is explained beside the stream.
func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	if err == nil || n > 0 || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	r.once.Do(func() { r.end = r.why(err) })
	return 0, r.end
}

// why asks the agent for the reason; if it is gone, cause has to do.
func (r *rawConn) why(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	var answer ErrorAnswer
	err := r.client.call(ctx, http.MethodGet, "/v1/console/"+url.PathEscape(r.id), nil, &answer)
	switch {
	case errors.Is(err, ErrNoAgent):
		return Errorf(Stopping, "start it with \"serialspan agent\"", "read from device: the agent stopped")
	case err == nil && answer.Error != nil:
		return answer.Error
	}
	return cause
}
