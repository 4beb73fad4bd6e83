package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server for the test and returns its socket.
func serve(t *testing.T, agent control.Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	run(t, control.Config{Agent: agent, Socket: socket})
	return socket
}

// run runs a server until the test ends, or until the returned function does.
func run(t *testing.T, config control.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listening := make(chan struct{})
	config.OnListening = func() { close(listening) }
	ended := make(chan error, 1)
	go func() { ended <- control.Run(ctx, config) }()
	stopped := false
	stop = func() error {
		cancel()
		stopped = true
		return <-ended
	}
	select {
	case <-listening:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if stopped {
			return
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

func newAgent() *controltest.Agent {
	agent := &controltest.Agent{}
	agent.AddDevice(client.Device{
		Name: "garage-zwave", Node: "garage", NodeID: controltest.ID(2), Kind: "zwave", State: client.DeviceInUse, User: "server",
		Line: "115200n81", Hardware: client.Hardware{VID: "0658", PID: "0200", Port: "1-1.2"}, Labels: map[string]string{"zone": "garage"},
	})
	return agent
}

// TestGolden holds the JSON of every answer: programs rely on it.
func TestGolden(t *testing.T) {
	socket := serve(t, newAgent())
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	for _, test := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"status", "GET", "/v1/status", "", 200},
		{"nodes", "GET", "/v1/nodes", "", 200},
		{"devices", "GET", "/v1/devices", "", 200},
		{"attachments-none", "GET", "/v1/attachments", "", 200},
		{"attach", "POST", "/v1/attachments", `{"device": "garage-zwave", "pty": {"link": "/run/x", "mode": 432}, "take": "force"}`, 200},
		{"attachments", "GET", "/v1/attachments", "", 200},
		{"detach", "DELETE", "/v1/attachments/%2Frun%2Fx", "", 200},
		{"detach-none", "DELETE", "/v1/attachments/a1", "", 404},
		{"sessions", "GET", "/v1/sessions", "", 200},
		{"resolve", "GET", "/v1/resolve?name=garage-zwave@garage", "", 200},
		{"resolve-none", "GET", "/v1/resolve?name=x", "", 404},
		{"resolve-nothing", "GET", "/v1/resolve", "", 400},
		{"ping", "POST", "/v1/ping?node=garage", "", 200},
		{"ping-none", "POST", "/v1/ping?node=x", "", 404},
		{"ping-nothing", "POST", "/v1/ping", "", 400},
		{"sizes", "POST", "/v1/sizes", "", 200},
		{"signal", "POST", "/v1/signal", `{"device": "garage-zwave", "words": ["dtr=off"]}`, 200},
		{"signal-none", "POST", "/v1/signal", `{"device": "x", "words": ["dtr=off"]}`, 404},
		{"signal-nothing", "POST", "/v1/signal", `{}`, 400},
		{"watch-nonsense", "GET", "/v1/nodes?watch=yes", "", 400},
		{"unknown", "GET", "/v2/status", "", 400},
		{"console-plain", "POST", "/v1/console?device=x", "", 400},
		{"monitor-plain", "POST", "/v1/monitor?device=x", "", 400},
		{"console-why", "GET", "/v1/console/77", "", 200},
	} {
		request, err := http.NewRequest(test.method, "http://agent"+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		have, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d, %v", test.name, response.StatusCode, test.status, err)
		}
		file := filepath.Join("testdata", test.name+".json")
		if *update {
			if err := os.WriteFile(file, have, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s: %v\nhave %s\nwant %s", test.name, err, have, want)
		}
	}
}

func TestClient(t *testing.T) {
	agent := newAgent()
	c := client.New(client.Config{Socket: serve(t, agent)})
	ctx := t.Context()
	status, err := c.Status(ctx)
	if err != nil || status.Node != "server" || time.Duration(status.Uptime) != 90*time.Second || status.ID != controltest.ID(1) {
		t.Errorf("status %+v, %v", status, err)
	}
	if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 2 || nodes[0].ID != controltest.ID(2) {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if devices, err := c.Devices(ctx); err != nil || len(devices) != 1 || devices[0].State != client.DeviceInUse {
		t.Errorf("devices %+v, %v", devices, err)
	}
	if sessions, err := c.Sessions(ctx); err != nil || len(sessions) != 1 {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	if resolution, err := c.Resolve(ctx, "garage-zwave"); err != nil || resolution.Device.Node != "garage" {
		t.Errorf("resolution %+v, %v", resolution, err)
	}
	if _, err := c.Resolve(ctx, "a b&c"); !errors.Is(err, client.NotFound) || !strings.Contains(err.Error(), `"a b&c"`) {
		t.Errorf("resolve nothing: %v", err)
	}
	made, err := c.Attach(ctx, client.AttachRequest{Device: "garage-zwave", TCP: "127.0.0.1:6639", Take: client.TakeForce})
	if err != nil || made.ID != "a1" || made.Kind != client.KindTCP {
		t.Errorf("attach %+v, %v", made, err)
	}
	if requests := agent.Requests(); len(requests) != 1 || requests[0].Take != client.TakeForce {
		t.Errorf("the agent was asked for %+v", requests)
	}
	if attachments, err := c.Attachments(ctx); err != nil || len(attachments) != 1 {
		t.Errorf("attachments %+v, %v", attachments, err)
	}
	if gone, err := c.Detach(ctx, "127.0.0.1:6639"); err != nil || gone.ID != "a1" {
		t.Errorf("detach %+v, %v", gone, err)
	}
}

func TestAttachRefused(t *testing.T) {
	agent := newAgent()
	c := client.New(client.Config{Socket: serve(t, agent)})
	for _, test := range []struct {
		name    string
		request client.AttachRequest
		want    client.Code
	}{
		{"no device", client.AttachRequest{TCP: "127.0.0.1:1"}, client.Invalid},
		{"no place", client.AttachRequest{Device: "a"}, client.Invalid},
		{"two places", client.AttachRequest{Device: "a", TCP: "127.0.0.1:1", PTY: &client.PTYSpec{Link: "/a"}}, client.Invalid},
		{"relative link", client.AttachRequest{Device: "a", PTY: &client.PTYSpec{Link: "a"}}, client.Invalid},
		{"setuid", client.AttachRequest{Device: "a", PTY: &client.PTYSpec{Link: "/a", Mode: 0o4755}}, client.Invalid},
		{"no port", client.AttachRequest{Device: "a", TCP: "127.0.0.1"}, client.Invalid},
		{"host name", client.AttachRequest{Device: "a", TCP: "garage:1"}, client.Invalid},
		{"exposed", client.AttachRequest{Device: "a", TCP: ":1"}, client.Refused},
		{"exposed IPv6", client.AttachRequest{Device: "a", TCP: "[::]:1"}, client.Refused},
		{"meant", client.AttachRequest{Device: "a", TCP: ":1", Expose: true}, 0},
		{"loopback", client.AttachRequest{Device: "a", TCP: "[::1]:1"}, 0},
		{"loopback mapped", client.AttachRequest{Device: "a", TCP: "[::ffff:127.0.0.1]:1"}, 0},
		{"localhost", client.AttachRequest{Device: "a", TCP: "localhost:1"}, 0},
	} {
		_, err := c.Attach(t.Context(), test.request)
		if test.want == 0 && err != nil || test.want != 0 && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want code %v", test.name, err, test.want)
		}
	}
	if len(agent.Requests()) != 4 {
		t.Errorf("the agent got %+v", agent.Requests())
	}
}

func TestDetachWhich(t *testing.T) {
	agent := newAgent()
	c := client.New(client.Config{Socket: serve(t, agent)})
	for _, r := range []client.AttachRequest{
		{Device: "a", TCP: "127.0.0.1:1"}, {Device: "a", TCP: "127.0.0.1:2"}, {Device: "b", PTY: &client.PTYSpec{Link: "/run/../run/b c"}},
	} {
		if _, err := c.Attach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		which string
		id    string
		code  client.Code
	}{
		{"a", "", client.Ambiguous},
		{"127.0.0.1:2", "a2", 0},
		{"a", "a1", 0},
		{"/run/../run/b c", "a3", 0},
		{"b", "", client.NotFound},
		{"", "", client.Invalid},
	} {
		gone, err := c.Detach(t.Context(), test.which)
		if gone.ID != test.id || test.code != 0 && !errors.Is(err, test.code) || test.code == 0 && err != nil {
			t.Errorf("%q: %q, %v, want %q, %v", test.which, gone.ID, err, test.id, test.code)
		}
	}
}

func TestRefusesStrangeBodies(t *testing.T) {
	socket := serve(t, newAgent())
	for name, body := range map[string]string{
		"not JSON": "{", "unknown key": `{"devise": "a"}`, "wrong type": `{"device": 1}`, "take": `{"device": "a", "tcp": "127.0.0.1:1", "take": "all"}`,
		"huge": `{"device": "` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		request, _ := http.NewRequest("POST", "http://agent/v1/attachments", strings.NewReader(body))
		response, err := (&http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			DisableKeepAlives: true,
		}).RoundTrip(request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var answer client.ErrorAnswer
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusBadRequest || answer.Error == nil || answer.API != client.Version {
			t.Errorf("%s: status %d, %+v, %v", name, response.StatusCode, answer, err)
		}
	}
}

// TestWatchEnds: a watch does not keep the server from stopping, and its client
// learns why.
func TestWatchEnds(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := run(t, control.Config{Agent: newAgent(), Socket: socket})
	told := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- client.New(client.Config{Socket: socket}).Watch(t.Context(), client.ListStatus, func(answer []byte) error {
			told <- string(answer)
			return nil
		})
	}()
	if first := <-told; !strings.HasPrefix(first, `{"api":"serialspan/v1","version":"1.2.3",`) {
		t.Errorf("told %s", first)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, client.Stopping) {
		t.Errorf("have %v", err)
	}
	if len(told) > 0 {
		t.Errorf("told without a change: %s", <-told)
	}
}
