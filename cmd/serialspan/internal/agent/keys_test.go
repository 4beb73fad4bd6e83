package agent_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/capture"
	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// modemPort is an echo with modem lines; what is done to them is noted.
type modemPort struct {
	*echo
	notes *notes
}

type notes struct {
	mu   sync.Mutex
	text []string
}

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, text)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.text, " ")
}

func (m *modemPort) SetModem(mask, on line.ModemLines) error {
	m.notes.add(mask.String() + "=" + on.String())
	return nil
}

func (m *modemPort) Modem() (line.ModemLines, error) { return 0, nil }

func (m *modemPort) SetBreak(to line.Drive) error {
	m.notes.add("break=" + to.String())
	return nil
}

// TestSignal: modem lines move on the node that has the device, for whom its
// rule allows it.
func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond})
		cloud := h.start(&node{name: "cloud"})
		through := []string{cloud.addr.String()}
		noted := &notes{}
		friend := h.start(&node{name: "friend", join: through})
		edge := h.start(&node{name: "edge", join: through, change: func(c *configs.Config) {
			c.Devices.Rules[0].Allow = []string{friend.Status().ID.String()}
		}, open: func(spec publish.PortSpec) (publish.Port, error) {
			port, err := newEcho(spec)
			return &modemPort{port.(*echo), noted}, err
		}})
		h.net.WaitFor(5*time.Second, "all to resolve the stick", func() bool {
			return friend.resolves("edge-stick")() && cloud.resolves("edge-stick")()
		})
		start := time.Now()
		if err := friend.Signal(t.Context(), "edge-stick", []string{"dtr=off", "rts=on", "break=250ms"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 250*time.Millisecond || took > time.Second {
			t.Errorf("it took %v", took)
		}
		if have, want := noted.String(), "dtr+rts=rts break=on break=off"; have != want {
			t.Errorf("the port saw %s, want %s", have, want)
		}
		for _, test := range []struct {
			name   string
			node   *node
			device string
			words  []string
			code   client.Code
		}{
			{"who is not allowed", cloud, "edge-stick", []string{"dtr=on"}, client.Refused},
			{"nonsense", friend, "edge-stick", []string{"cts=on"}, client.Invalid},
			{"no such device", friend, "edge-stone", []string{"dtr=on"}, client.NotFound},
			{"no such recipe", friend, "edge-stick", []string{"reset=bootloader"}, client.NotFound},
		} {
			if err := test.node.Signal(t.Context(), test.device, test.words); !errors.Is(err, test.code) {
				t.Errorf("%s: have %v, want %v", test.name, err, test.code)
			}
		}
		edge.crash()
		if err := friend.Signal(t.Context(), "edge-stick", []string{"dtr=on"}); !errors.Is(err, client.Away) {
			t.Errorf("of a dead node: %v", err)
		}
	})
}

// TestNodesShowsSkew: the wall clock of another and when it was last heard.
func TestNodesShowsSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, meshtest.Link{})
		cloud := h.start(&node{name: "cloud"})
		edge := h.start(&node{name: "edge", join: []string{cloud.addr.String()}})
		h.net.WaitFor(time.Minute, "the skew to be known", func() bool {
			for _, n := range cloud.Nodes() {
				if n.ID == edge.Status().ID && n.Skew != nil {
					return n.Heard != nil && *n.Skew == 0
				}
			}
			return false
		})
	})
}

// TestAdmission: a holder of the secret who is not listed stays outside, and is
// let in without a restart when the list grows.
func TestAdmission(t *testing.T) {
	r := newReal(t, base)
	r.start()
	outside := newReal(t, strings.Replace(base, "name: garage", "name: attic", 1)+"cluster: {join: ['"+r.Status().Listen+"']}\n")
	data, err := os.ReadFile(filepath.Join(r.dir, "cluster.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside.dir, "cluster.secret"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	other := identity.FromSeed([32]byte{1}).ID().String()
	listen := r.Status().Listen
	r.stop()
	listed := strings.Replace(base, "127.0.0.1:0", listen, 1) + "cluster: {admission: allowlist, allow: [" + other + "]}\n"
	r.write(listed)
	r.start()
	outside.start()
	outside.until("it is refused", outside.showsProblem("not admitted"))
	if n := r.Status().Members; n != 1 {
		t.Errorf("%d members", n)
	}
	r.write(strings.Replace(listed, other, other+", "+outside.Status().ID.String(), 1))
	r.until("it is admitted", func() bool { return r.Status().Members == 2 })
	if p := r.problem("restart the agent"); p != "" {
		t.Error(p)
	}
	r.write(strings.Replace(listed, "["+other+"]", "["+outside.Status().ID.String()+"]", 1))
	r.until("a member taken off the list wants a restart", r.showsProblem("cluster.allow: changed; restart the agent"))
}

// TestProfiles: a rule names a profile of devices.profiles_dir; a wrong one is
// told with its place.
func TestProfiles(t *testing.T) {
	meter := `profiles: [{name: my-meter, title: Meter, match: [{vid: "ffff", pid: "0001"}], kind: meter, line: 9600n81, sources: ["here"]}]`
	rules := "devices:\n  profiles_dir: $DIR/profiles\n  rules:\n    - match: {path: " + tty(t) + "}\n      profile: my-meter\n"
	r := newReal(t, base+rules)
	dir := filepath.Join(r.dir, "profiles")
	file := filepath.Join(dir, "meter.yaml")
	if err := r.make(""); err == nil || !strings.Contains(err.Error(), r.expand("serialspan.yaml:5: devices.profiles_dir: ")) {
		t.Errorf("no folder: %v", err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, []byte("profiles: [{nam: x}]"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := r.make(""); err == nil || !strings.Contains(err.Error(), file+":1: ") {
		t.Errorf("a wrong file: %v", err)
	}
	if err := os.WriteFile(file, []byte(meter), 0o644); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("the device is there", func() bool {
		devices := r.Devices()
		return len(devices) == 1 && devices[0].Name == "garage-meter" && devices[0].Kind == "meter" && devices[0].Line == "9600n81" && devices[0].Profile == "my-meter"
	})
	r.write(strings.Replace(base+rules, "my-meter", "my-mater", 1))
	r.until("the profile is missed", r.showsProblem(`devices.rules[0]: profile: "my-mater" is not known`))
}

// TestRFC2217: the configuration and the command make RFC 2217 ports; a client
// is answered in Telnet.
func TestRFC2217(t *testing.T) {
	text := base + "devices: {rules: [{match: {path: " + tty(t) + "}, name: one}]}\n"
	r := newReal(t, text)
	r.start()
	made, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", RFC2217: "127.0.0.1:0", Line: "9600e71"})
	if err != nil || made.Kind != client.KindRFC2217 {
		t.Fatalf("have %+v, %v", made, err)
	}
	if _, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", TCP: made.Where}); !errors.Is(err, client.Exists) {
		t.Errorf("raw TCP at the same address: %v", err)
	}
	if _, err := r.ctl.Attach(t.Context(), client.AttachRequest{Device: "one", RFC2217: made.Where, Line: "300n81"}); !errors.Is(err, client.Exists) {
		t.Errorf("with another line: %v", err)
	}
	r.until("the device can be had", func() bool {
		found, err := r.Resolve("one")
		return err == nil && found.Device.State == client.DeviceAvailable
	})
	conn, err := net.Dial("tcp", made.Where)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	const iac, do, comPort = 255, 253, 44
	if _, err := conn.Write([]byte{iac, 251, comPort}); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !strings.Contains(string(got), string([]byte{iac, do, comPort})) {
		buf := make([]byte, 256)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	conn.Close()
	r.write(text + "attachments: [{device: one, rfc2217: '127.0.0.1:0'}]\n")
	r.until("that of the file is there", func() bool { return len(r.Attachments()) == 2 })
	where := made.Where
	r.stop()
	r.start()
	r.until("that of the command is there again", func() bool {
		for _, a := range r.Attachments() {
			if a.Where == where && a.Kind == client.KindRFC2217 && a.Origin == client.OriginCommand {
				return true
			}
		}
		return false
	})
}

// TestMonitor: a third node sees both directions of what another does with the
// device, over the control API's form.
func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond})
		cloud := h.start(&node{name: "cloud"})
		through := []string{cloud.addr.String()}
		h.start(&node{name: "edge", join: through})
		user := h.start(&node{name: "user", join: through})
		h.net.WaitFor(5*time.Second, "all to resolve the stick", func() bool {
			return user.resolves("edge-stick")() && cloud.resolves("edge-stick")()
		})
		if _, err := cloud.Monitor(t.Context(), "edge-stone"); !errors.Is(err, client.NotFound) {
			t.Errorf("no such device: %v", err)
		}
		records, err := cloud.Monitor(t.Context(), "edge-stick")
		if err != nil {
			t.Fatal(err)
		}
		user.roundTrip(t, "edge-stick")
		var buf []byte
		seen := map[capture.Kind]int{}
		for seen[capture.FromDevice] < 64<<10+1 || seen[capture.ToDevice] < 64<<10+1 {
			part := make([]byte, 1000)
			n, err := records.Read(part)
			if err != nil {
				t.Fatal(err)
			}
			buf = append(buf, part[:n]...)
			for {
				e, size, err := capture.Decode(buf)
				if err != nil {
					t.Fatal(err)
				}
				if size == 0 {
					break
				}
				if e.Kind == capture.Gap {
					t.Fatalf("a gap: %+v", e)
				}
				seen[e.Kind] += len(e.Data)
				buf = buf[size:]
			}
		}
		records.Close()
		if _, err := io.Copy(io.Discard, records); err == nil {
			t.Error("no word of the Close")
		}
	})
}
