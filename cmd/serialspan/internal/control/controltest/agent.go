// Package controltest is an agent in memory, for tests of the control server
// and of the commands. It has one node, the devices it is given, and consoles
// whose other end the test holds.
package controltest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Agent satisfies control.Agent. It is safe for concurrent use; the zero value
// has no devices.
type Agent struct {
	// Alone is what LeftAlone returns; set before it is served.
	Alone []client.LeftAlone

	// Open is called for each console with the agent's end of a stream; nil
	// makes every console echo. An error is what Console returns.
	Open func(device string, take client.Take) (io.ReadWriteCloser, error)

	// Records are what Monitor gives, of bridge/capture.
	Records []byte

	// Refuse is what requests of ports fail with; nil: they do not.
	Refuse error

	mu          sync.Mutex // guards the fields below
	ports       []*Port
	devices     []client.Device
	attachments []client.Attachment
	requests    []client.AttachRequest
	signals     [][]string
	made        int
	watchers    map[chan struct{}]bool
}

// ID returns a NodeID that is the same in every run.
func ID(n byte) identity.NodeID {
	return identity.FromSeed([32]byte{n}).ID()
}

// AddDevice publishes a device.
func (a *Agent) AddDevice(device client.Device) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.devices = append(a.devices, device)
	for c := range a.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Watch signals what AddDevice adds.
func (a *Agent) Watch() (changes <-chan struct{}, stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := make(chan struct{}, 1)
	if a.watchers == nil {
		a.watchers = map[chan struct{}]bool{}
	}
	a.watchers[c] = true
	return c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, c)
	}
}

// Requests returns what Attach was asked for so far.
func (a *Agent) Requests() []client.AttachRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]client.AttachRequest(nil), a.requests...)
}

// Status is that of a node called server.
func (a *Agent) Status() client.Status {
	return client.Status{
		Version: "1.2.3", Node: "server", ID: ID(1), MeshAddress: netip.MustParseAddr("fd00::1"), Cluster: "0123-4567-89ab-cdef",
		Epoch: 3, Uptime: client.Seconds(90 * time.Second), Listen: "192.0.2.1:51821", Members: 2,
		Counters: map[string]uint64{"junk_datagrams": 7},
	}
}

// Nodes are the node itself and another.
func (a *Agent) Nodes() []client.Node {
	return []client.Node{
		{Name: "garage", ID: ID(2), State: client.NodeAlive, Path: "direct", Endpoint: "192.0.2.2:51821", RTT: 1.25, Skew: new(client.Seconds(-3600 * time.Second)), Version: "1.2.3", Heard: new(client.Seconds(time.Second))},
		{Name: "server", ID: ID(1), State: client.NodeAlive, Version: "1.2.3", Self: true},
	}
}

// Devices returns what AddDevice was given.
func (a *Agent) Devices() []client.Device {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]client.Device(nil), a.devices...)
}

// LeftAlone returns Alone.
func (a *Agent) LeftAlone() []client.LeftAlone { return a.Alone }

// Attachments returns what Attach made.
func (a *Agent) Attachments() []client.Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]client.Attachment(nil), a.attachments...)
}

// Sessions is one session.
func (a *Agent) Sessions() []client.Session {
	return []client.Session{{
		ID: "00112233445566778899aabbccddeeff", Device: "garage-zwave", Role: "consumer", Peer: "garage", PeerID: ID(2),
		State: "open", Line: "115200n81", Since: client.Seconds(5 * time.Second), Sent: 12, Received: 3456,
		Kind: client.KindPTY, RTT: 12.5, Resumed: 2, Gaps: 1, Lost: 7,
	}}
}

// Resolve finds a device by its name.
func (a *Agent) Resolve(name string) (client.Resolution, error) {
	for _, d := range a.Devices() {
		if name == d.Name || name == d.Name+"@"+d.Node {
			return client.Resolution{Query: name, Device: d}, nil
		}
	}
	return client.Resolution{}, client.Errorf(client.NotFound, "\"serialspan devices\" lists what there is", "resolve %q: no such device", name)
}

// Ping knows the members that Nodes lists.
func (a *Agent) Ping(_ context.Context, node string) (client.Pong, error) {
	for _, n := range a.Nodes() {
		if n.Name == node {
			return client.Pong{Node: n.Name, ID: n.ID, RTT: 1.25, Skew: client.Seconds(-3600 * time.Second), Path: "direct", Endpoint: n.Endpoint}, nil
		}
	}
	return client.Pong{}, client.Errorf(client.NotFound, "\"serialspan nodes\" lists them", "ping %q: no such node", node)
}

// PathSizes knows a path on which all datagrams get through.
func (a *Agent) PathSizes(context.Context) []client.PathSize {
	return []client.PathSize{{
		Node: "garage", ID: ID(2), Path: "direct", Endpoint: "192.0.2.2:51821", Data: 1296, Full: 1408, There: 1408, Back: 1408, Headers: 28, MTU: 1500,
		Seen: netip.MustParseAddrPort("198.51.100.7:4711"), Translated: true,
	}}
}

// Signal knows what reset=none means: nothing.
func (a *Agent) Signal(_ context.Context, device string, words []string) error {
	if _, err := a.Resolve(device); err != nil {
		return err
	}
	if len(words) == 1 && words[0] == "reset=none" {
		return client.Errorf(client.NotFound, "", "reset device %q: no such recipe", device)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signals = append(a.signals, append([]string{device}, words...))
	return nil
}

// Signals returns what Signal was asked for so far: each the device and words.
func (a *Agent) Signals() [][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([][]string(nil), a.signals...)
}

// RotateSecret makes key 2.
func (a *Agent) RotateSecret(context.Context, client.RotateRequest) (uint32, error) { return 2, nil }

// RemoveNode knows the members that Nodes lists.
func (a *Agent) RemoveNode(_ context.Context, node string) (client.Removal, error) {
	for _, n := range a.Nodes() {
		if n.Name == node && !n.Self {
			return client.Removal{Node: n.Name, ID: n.ID, RotateSecret: true, Notes: []string{"rotate the secret"}}, nil
		}
	}
	return client.Removal{}, client.Errorf(client.NotFound, "\"serialspan nodes\" lists them", "remove %q: no such node", node)
}

// Attach makes an attachment a1, a2 and so on.
func (a *Agent) Attach(_ context.Context, request client.AttachRequest) (client.Attachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, request)
	a.made++
	made := client.Attachment{ID: fmt.Sprintf("a%d", a.made), Device: request.Device, Kind: client.KindTCP, Where: request.TCP, State: client.AttachmentWaiting}
	if request.RFC2217 != "" {
		made.Kind, made.Where = client.KindRFC2217, request.RFC2217
	}
	if request.PTY != nil {
		made.Kind, made.Where = client.KindPTY, request.PTY.Link
	}
	a.attachments = append(a.attachments, made)
	return made, nil
}

// Detach removes an attachment.
func (a *Agent) Detach(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, made := range a.attachments {
		if made.ID == id {
			a.attachments = append(a.attachments[:i], a.attachments[i+1:]...)
			return nil
		}
	}
	return client.Errorf(client.NotFound, "", "detach %q: no such attachment", id)
}

// Monitor gives the Records once the device is found, and then ends.
func (a *Agent) Monitor(_ context.Context, device string) (io.ReadCloser, error) {
	if _, err := a.Resolve(device); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(a.Records)), nil
}

// Console opens what Open says, or an echo.
func (a *Agent) Console(_ context.Context, device string, take client.Take) (io.ReadWriteCloser, error) {
	if a.Open != nil {
		return a.Open(device, take)
	}
	reader, writer := io.Pipe()
	return echo{reader, writer}, nil
}

type echo struct {
	*io.PipeReader
	writer *io.PipeWriter
}

func (e echo) Write(p []byte) (int, error) { return e.writer.Write(p) }

func (e echo) Close() error {
	e.writer.CloseWithError(io.ErrClosedPipe)
	return e.PipeReader.Close()
}
