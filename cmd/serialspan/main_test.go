package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/terminal/terminaltest"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// command runs a command line.
func command(t *testing.T, in string, args ...string) result {
	t.Helper()
	var out, errOut buffer
	a := &app{in: strings.NewReader(in), out: &out, err: &errOut}
	code := a.run(t.Context(), args)
	return result{code, out.String(), errOut.String()}
}

// serve runs the control server of an agent and returns its socket.
func serve(t *testing.T, agent control.Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ctx, cancel := context.WithCancel(context.Background())
	listening, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- control.Run(ctx, control.Config{Agent: agent, Socket: socket, OnListening: func() { close(listening) }})
	}()
	select {
	case <-listening:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func newAgentWithDevices() *controltest.Agent {
	agent := &controltest.Agent{}
	agent.AddDevice(client.Device{Name: "garage-zwave", Node: "garage", NodeID: controltest.ID(2), Kind: "zwave", State: client.DeviceInUse, User: "server", Line: "115200n81", Hardware: client.Hardware{VID: "0658", PID: "0200", Port: "1-1.2"}})
	agent.AddDevice(client.Device{Name: "meter", Node: "shed", NodeID: controltest.ID(3), Kind: "serial", State: client.DeviceAway, Detail: "unplugged"})
	agent.AddDevice(client.Device{Name: "meter", Node: "attic", NodeID: controltest.ID(4), Kind: "serial", State: client.DeviceAvailable, Conflict: true})
	return agent
}

func TestAttachWhatIsNotThere(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	if r := command(t, "", "attach", "garage-zwav", "--pty", "/run/serialspan/zwav", "--socket", socket); r.code != 0 || !strings.Contains(r.err, "; the attachment waits for it") {
		t.Errorf("attach what is not there: %+v", r)
	}
}

func TestTables(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	if r := command(t, "", "attach", "garage-zwave", "--pty", "/run/serialspan/zwave", "--socket", socket); r.code != 0 || r.out != "attached garage-zwave at /run/serialspan/zwave\n" {
		t.Errorf("attach: %+v", r)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "node          server\nid            " + controltest.ID(1).String() + "\nmesh address  fd00::1\ncluster       0123-4567-89ab-cdef\n" +
			"listen        192.0.2.1:51821\nmembers       2 alive\ndevices       0 published here\nup            1m, start 3\nversion       1.2.3\n" +
			"counter       junk_datagrams 7\nproblems      none\n"},
		{[]string{"nodes"}, "" +
			"NAME    ID        STATE  PATH    ENDPOINT         RTT    SKEW  VERSION  HEARD\n" +
			"garage  s6ufnswi  alive  direct  192.0.2.2:51821  1.2ms  -60m  1.2.3    1s\n" +
			"server  fq5jkgcv  alive  self    -                -      -     1.2.3    -\n"},
		{[]string{"devices"}, "" +
			"NAME          NODE    KIND    STATE      USER\n" +
			"garage-zwave  garage  zwave   in-use     server\n" +
			"meter         shed    serial  away       -\n" +
			"meter@attic   attic   serial  available  -\n"},
		{[]string{"attachments"}, "" +
			"DEVICE        WHERE                  STATE    SINCE  SENT  RECEIVED\n" +
			"garage-zwave  /run/serialspan/zwave  waiting  0s     0 B   0 B\n"},
		{[]string{"sessions"}, "" +
			"ID        DEVICE        ROLE      PEER    STATE  SINCE  SENT  RECEIVED  RTT     RESUMED  GAPS\n" +
			"0011223…  garage-zwave  consumer  garage  open   5s     12 B  3.5 kB    12.5ms  2        1 (7 B)\n"},
		{[]string{"resolve", "garage-zwave"}, "" +
			"device        garage-zwave\nnode          garage (s6ufnswi)\nkind          zwave\nstate         in-use by server\nline          115200n81\nhardware      0658:0200 1-1.2\n"},
	} {
		r := command(t, "", append(test.args, "--socket", socket)...)
		if r.code != 0 || r.out != test.want {
			t.Errorf("%v: exit %d, %s\nhave\n%s\nwant\n%s", test.args, r.code, r.err, r.out, test.want)
		}
		for line := range strings.Lines(r.out) {
			limit := 80
			if test.args[0] == "sessions" {
				limit = 100
			}
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > limit {
				t.Errorf("%v: wider than %d columns: %s", test.args, limit, line)
			}
		}
		r = command(t, "", append(test.args, "--json", "--socket", socket)...)
		var answer struct{ API string }
		if err := json.Unmarshal([]byte(r.out), &answer); err != nil || answer.API != client.Version {
			t.Errorf("%v --json: %v\n%s", test.args, err, r.out)
		}
	}
	if r := command(t, "", "detach", "/run/serialspan/zwave", "--socket", socket); r.code != 0 || r.out != "detached garage-zwave from /run/serialspan/zwave\n" {
		t.Errorf("detach: %+v", r)
	}
}

func TestAttachRequests(t *testing.T) {
	agent := newAgentWithDevices()
	socket := serve(t, agent)
	dir := t.TempDir()
	t.Chdir(dir)
	for _, args := range [][]string{
		{"attach", "a", "--pty", "x", "--mode", "660", "--group", "dialout", "--take"},
		{"attach", "a@b", "--tcp", "0.0.0.0:1", "--expose"},
		{"attach", "a", "--rfc2217", "127.0.0.1:2", "--line", "9600e71"},
	} {
		if r := command(t, "", append(args, "--socket", socket)...); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	requests := agent.Requests()
	if len(requests) != 3 || *requests[0].PTY != (client.PTYSpec{Link: filepath.Join(dir, "x"), Mode: 0o660, Group: "dialout"}) || requests[0].Take != client.TakeForce ||
		requests[1].TCP != "0.0.0.0:1" || !requests[1].Expose || requests[1].Take != client.TakeNormal ||
		requests[2].RFC2217 != "127.0.0.1:2" || requests[2].Line != "9600e71" {
		t.Errorf("asked for %+v", requests)
	}
}

func TestExitCodes(t *testing.T) {
	agent := newAgentWithDevices()
	agent.Open = func(string, client.Take) (io.ReadWriteCloser, error) {
		return nil, client.Errorf(client.Busy, "take it with --take", "open \"garage-zwave\": in use by attic")
	}
	socket := serve(t, agent)
	none := filepath.Join(t.TempDir(), "none.sock")
	for _, test := range []struct {
		args []string
		code int
		err  string // a part of it
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"--help"}, 0, ""},
		{[]string{"frobnicate"}, 2, `unknown command "frobnicate"`},
		{[]string{"status", "extra"}, 2, "unknown command"},
		{[]string{"status", "--frob"}, 2, "unknown flag: --frob"},
		{[]string{"resolve"}, 2, "NAME, NAME@NODE or LABEL=VALUE"},
		{[]string{"attach", "a"}, 2, "write one of --pty PATH, --tcp IP:PORT and --rfc2217 IP:PORT"},
		{[]string{"attach", "a", "--pty", "/a", "--tcp", "127.0.0.1:1"}, 2, "write one of --pty PATH, --tcp IP:PORT and --rfc2217 IP:PORT"},
		{[]string{"attach", "a", "--tcp", "127.0.0.1:1", "--mode", "0660"}, 2, "--mode and --group go with --pty"},
		{[]string{"attach", "a", "--pty", "/a", "--mode", "rw"}, 2, "octal"},
		{[]string{"attach", "a", "--tcp", "x"}, 2, "address \"x\""},
		{[]string{"attach", "a", "--tcp", "0.0.0.0:1"}, 4, "--expose"},
		{[]string{"secret", "frob"}, 2, "secret new"},
		{[]string{"init", "--name", "a b"}, 2, `name "a b"`},
		{[]string{"join", "garage:51820"}, 2, "KubeSpan"},
		{[]string{"resolve", "nothing"}, 3, `"serialspan devices" lists`},
		{[]string{"detach", "nothing"}, 3, "no such attachment"},
		{[]string{"console", "garage-zwave"}, 4, "in use by attic; take it with --take"},
		{[]string{"status", "--socket", none}, 5, "no agent at " + none},
		{[]string{"console", "x", "--socket", none}, 5, "no agent at " + none},
		{[]string{"agent", "--config", "/nowhere/x.yaml"}, 1, "/nowhere/x.yaml"},
	} {
		args := test.args
		if test.code != 5 {
			args = append([]string{"--socket", socket}, args...)
		}
		r := command(t, "", args...)
		if r.code != test.code || !strings.Contains(r.err, test.err) || test.code != 0 && r.out != "" {
			t.Errorf("%v: exit %d, want %d\n%s%s", test.args, r.code, test.code, r.out, r.err)
		}
	}
}

// TestSocketFromConfiguration: commands find the agent by the configuration,
// even one with a mistake in it.
func TestSocketFromConfiguration(t *testing.T) {
	socket := serve(t, newAgentWithDevices())
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte("control: {socket: "+socket+"}\nmistake: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", "status", "--config", file); r.code != 0 {
		t.Errorf("--config: %+v", r)
	}
	t.Setenv("SERIALSPAN_CONFIG", file)
	if r := command(t, "", "status"); r.code != 0 {
		t.Errorf("SERIALSPAN_CONFIG: %+v", r)
	}
}

func TestInitJoin(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "first"), filepath.Join(base, "second")
	r := command(t, "", "init", "--dir", first, "--name", "garage")
	for _, want := range []string{"serialspan agent --config " + first + "/serialspan.yaml", "serialspan join ", "cat " + first + "/cluster.secret"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("init: %+v, want %q", r, want)
		}
	}
	info, err := os.Stat(filepath.Join(first, "cluster.secret"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("secret: %v, %v", info, err)
	}
	secret, err := os.ReadFile(filepath.Join(first, "cluster.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.out, strings.TrimSpace(string(secret))) {
		t.Error("init prints the secret")
	}
	config, err := configs.Load(filepath.Join(first, "serialspan.yaml"))
	if err != nil || config.Node.Name != "garage" || config.Node.StateDir != filepath.Join(first, "state") {
		t.Errorf("init wrote %+v, %v", config, err)
	}
	before, _ := os.ReadFile(filepath.Join(first, "serialspan.yaml"))
	if r := command(t, "", "init", "--dir", first); r.code != 4 {
		t.Errorf("second init: %+v", r)
	}
	if r := command(t, string(secret), "join", "garage.lan", "--dir", first); r.code != 4 {
		t.Errorf("join over init: %+v", r)
	}
	if after, _ := os.ReadFile(filepath.Join(first, "serialspan.yaml")); !bytes.Equal(before, after) {
		t.Error("init overwrote the configuration")
	}
	r = command(t, string(secret), "join", "garage.lan", "--dir", second, "--name", "server")
	if r.code != 0 || !strings.Contains(r.out, "serialspan agent --config "+second) {
		t.Errorf("join: %+v", r)
	}
	config, err = configs.Load(filepath.Join(second, "serialspan.yaml"))
	if err != nil || config.Node.Name != "server" || len(config.Cluster.Join) != 1 || config.Cluster.Join[0] != "garage.lan:51821" {
		t.Errorf("join wrote %+v, %v", config, err)
	}
	one := command(t, "", "secret", "id", filepath.Join(first, "cluster.secret"))
	two := command(t, "", "secret", "id", "--config", filepath.Join(second, "serialspan.yaml"))
	if one.code != 0 || one != two {
		t.Errorf("fingerprints %+v and %+v", one, two)
	}
}

func TestJoinSecretSources(t *testing.T) {
	secret, err := identity.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	file := filepath.Join(base, "secret")
	if err := identity.WriteSecretFile(file, secret); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", "join", "h", "--dir", filepath.Join(base, "a"), "--secret-file", file); r.code != 0 {
		t.Errorf("file: %+v", r)
	}
	t.Setenv("SERIALSPAN_SECRET", secret.Text())
	if r := command(t, "", "join", "h", "--dir", filepath.Join(base, "b")); r.code != 0 {
		t.Errorf("environment: %+v", r)
	}
	t.Setenv("SERIALSPAN_SECRET", "")
	if r := command(t, "rubbish\n", "join", "h", "--dir", filepath.Join(base, "c")); r.code != 1 || strings.Contains(r.err, "rubbish") {
		t.Errorf("rubbish: %+v", r)
	}
	if _, err := os.Stat(filepath.Join(base, "c")); err == nil {
		t.Error("a refused secret left files")
	}
	// Another secret that is there already stays.
	other := filepath.Join(base, "d")
	if r := command(t, "", "init", "--dir", other); r.code != 0 {
		t.Fatal(r)
	}
	os.Remove(filepath.Join(other, "serialspan.yaml"))
	if r := command(t, secret.Text(), "join", "h", "--dir", other); r.code != 4 || !strings.Contains(r.err, "holds another secret") {
		t.Errorf("other secret: %+v", r)
	}
	if r := command(t, "", "init", "--dir", other); r.code != 4 {
		t.Errorf("init over a secret: %+v", r)
	}
}

func TestSecretNew(t *testing.T) {
	r := command(t, "", "secret", "new")
	if _, err := identity.ParseSecret(r.out); r.code != 0 || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	file := filepath.Join(t.TempDir(), "s")
	if r := command(t, "", "secret", "new", file); r.code != 0 || r.out != "" {
		t.Errorf("%+v", r)
	}
	if _, err := identity.ReadSecretFile(file); err != nil {
		t.Error(err)
	}
	if r := command(t, "", "secret", "new", file); r.code == 0 {
		t.Error("overwrote a secret")
	}
}

func TestTableFitsTerminal(t *testing.T) {
	person, program := terminaltest.Open(t)
	terminaltest.Resize(t, program, 40)
	table := table{header: []string{"NAME", "NODE"}}
	table.add(strings.Repeat("x", 60), "bad\x1b[31m\nnode")
	shown := newPage(program)
	table.write(shown)
	shown.write(program, io.Discard)
	seen := make([]byte, 1000)
	var all string
	for strings.Count(all, "\n") < 2 {
		n, err := person.Read(seen)
		if err != nil {
			t.Fatal(err)
		}
		all += string(seen[:n])
	}
	for line := range strings.Lines(all) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\r\n")) > 40 || strings.Contains(line, "\x1b") {
			t.Errorf("line %q", line)
		}
	}
}

func TestExitCodeOfWrapped(t *testing.T) {
	if code := exitCode(errors.Join(errors.New("a"), client.Errorf(client.Away, "", "b"))); code != 3 {
		t.Errorf("have %d", code)
	}
}
