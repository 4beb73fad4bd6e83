package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxAnswer bounds what is read of an answer, in bytes: 1,000 nodes with
// 10 devices each.
const maxAnswer = 16 << 20

// Config says which agent to talk to. The zero value works.
type Config struct {
	// Socket is the path of the control socket; default FindSocket().
	Socket string
}

// Client talks to one agent. It is safe for concurrent use, keeps no
// connection between calls and needs no Close.
type Client struct {
	socket string
	http   http.Client
}

// New returns a client; it does not connect.
func New(config Config) *Client {
	c := &Client{socket: config.Socket}
	if c.socket == "" {
		c.socket = FindSocket()
	}
	c.http.Transport = &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}
	return c
}

// Socket returns the path of the control socket in use.
func (c *Client) Socket() string { return c.socket }

// Status returns what the agent says of itself.
//
// Every call ends when ctx does. An error is a *NoAgentError (ErrNoAgent)
// where nobody listens, an *Error where the agent refused.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var answer StatusAnswer
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &answer)
	return answer.Status, err
}

// Nodes returns all known members by name, this node included.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var answer NodesAnswer
	err := c.call(ctx, http.MethodGet, "/v1/nodes", nil, &answer)
	return answer.Nodes, err
}

// Devices returns all published devices of the cluster by name.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	answer, err := c.DevicesAnswer(ctx)
	return answer.Devices, err
}

// DevicesAnswer is Devices with what this machine leaves alone.
func (c *Client) DevicesAnswer(ctx context.Context) (DevicesAnswer, error) {
	var answer DevicesAnswer
	err := c.call(ctx, http.MethodGet, "/v1/devices", nil, &answer)
	return answer, err
}

// Attachments returns the attachments of this machine.
func (c *Client) Attachments(ctx context.Context) ([]Attachment, error) {
	var answer AttachmentsAnswer
	err := c.call(ctx, http.MethodGet, "/v1/attachments", nil, &answer)
	return answer.Attachments, err
}

// Sessions returns the sessions that this machine takes part in.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	var answer SessionsAnswer
	err := c.call(ctx, http.MethodGet, "/v1/sessions", nil, &answer)
	return answer.Sessions, err
}

// Resolve returns which device NAME or NAME@NODE means now. The error is
// NotFound, Away or Ambiguous.
func (c *Client) Resolve(ctx context.Context, name string) (Resolution, error) {
	var answer ResolveAnswer
	err := c.call(ctx, http.MethodGet, "/v1/resolve?name="+url.QueryEscape(name), nil, &answer)
	return answer.Resolution, err
}

// Ping measures the way to a member, by name or NodeID, over the mesh. The
// error is NotFound, Ambiguous or Away.
func (c *Client) Ping(ctx context.Context, node string) (Pong, error) {
	var answer PingAnswer
	err := c.call(ctx, http.MethodPost, "/v1/ping?node="+url.QueryEscape(node), nil, &answer)
	return answer.Pong, err
}

// PathSizes tries how large a datagram gets through to each living member that
// has a path: in a round trip where all do, in some seconds where large ones do
// not.
func (c *Client) PathSizes(ctx context.Context) ([]PathSize, error) {
	var answer PathSizesAnswer
	err := c.call(ctx, http.MethodPost, "/v1/sizes", nil, &answer)
	return answer.Paths, err
}

// Signal moves DTR, RTS and break of a device; it returns when that is done. It
// runs on the device's node, so its timing does not depend on the network. The
// error is Invalid for words that mean nothing, NotFound also for a reset recipe
// that the device does not have, Away, Refused, or Failed where the port has no
// such lines.
func (c *Client) Signal(ctx context.Context, request SignalRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/signal", request, new(SignalAnswer))
}

// Attach makes an attachment. The device need not be there yet.
func (c *Client) Attach(ctx context.Context, request AttachRequest) (Attachment, error) {
	var answer AttachmentAnswer
	err := c.call(ctx, http.MethodPost, "/v1/attachments", request, &answer)
	return answer.Attachment, err
}

// Detach removes the attachment that has this ID, link path or address, or
// the only one of this device, and returns what it was.
func (c *Client) Detach(ctx context.Context, which string) (Attachment, error) {
	var answer AttachmentAnswer
	if which == "" {
		return answer.Attachment, Errorf(Invalid, "name an ID, link, address or device", "detach: nothing named")
	}
	err := c.call(ctx, http.MethodDelete, "/v1/attachments/"+url.PathEscape(which), nil, &answer)
	return answer.Attachment, err
}

// List names what Watch follows.
type List string

// The lists. Their answers have the type of the same name: StatusAnswer,
// NodesAnswer and so on.
const (
	ListStatus      List = "status"
	ListNodes       List = "nodes"
	ListDevices     List = "devices"
	ListAttachments List = "attachments"
	ListSessions    List = "sessions"
)

// Watch calls each with the answer as it is now, and again after each change:
// one JSON object, without line ends, to be used during the call only. It
// blocks until ctx ends (nil), each fails (its error) or the agent does: the
// error is Stopping when that ended. Changes that follow each other closely
// are told once.
func (c *Client) Watch(ctx context.Context, list List, each func(answer []byte) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/"+url.PathEscape(string(list))+"?watch=1", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return c.failure(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return c.failure(err)
		}
		return errorOf(response.StatusCode, data)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return nil
	case err == nil || errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(Stopping, "start it with \"serialspan agent\"", "watch %s: the agent stopped", list)
	default:
		return c.failure(err)
	}
}

// call sends body as JSON, if it is not nil, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, reader)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.failure(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return c.failure(err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return errorOf(response.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of the agent at %s: %w; is it of the same version as this command?", c.socket, err)
	}
	return nil
}

// errorOf reads an error answer.
func errorOf(status int, data []byte) error {
	var answer ErrorAnswer
	if json.Unmarshal(data, &answer) != nil || answer.Error == nil {
		return Errorf(Failed, "", "ask the agent: HTTP status %d; is it of the same version as this command?", status)
	}
	return answer.Error
}

// failure says what a transport error means.
func (c *Client) failure(err error) error {
	if _, ok := errors.AsType[*NoAgentError](err); ok {
		return &NoAgentError{Socket: c.socket, Cause: err} // without net/http's URL around it
	}
	if found, ok := errors.AsType[*Error](err); ok {
		return found
	}
	return fmt.Errorf("ask the agent at %s: %w", c.socket, err)
}

// maxSocketPath is what sun_path of unix(7) holds, in bytes, besides its final
// zero.
const maxSocketPath = 107

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if len(c.socket) > maxSocketPath {
		return nil, Errorf(Invalid, "set control.socket, "+SocketVariable+" or --socket to a shorter path",
			"open control socket %s: %d bytes long, the kernel takes %d", c.socket, len(c.socket), maxSocketPath)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOTSOCK):
		return nil, &NoAgentError{Socket: c.socket, Cause: err}
	case errors.Is(err, fs.ErrPermission):
		return nil, Errorf(Refused, "run it as root, or as a member of the socket's group", "open control socket %s: permission denied", c.socket)
	}
	return nil, err
}
