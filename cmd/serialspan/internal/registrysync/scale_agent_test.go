package registrysync_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

var (
	agentFlag   = flag.String("agent", "", "program whose agent is measured among real members; default none")
	othersFlag  = flag.Int("others", 99, "how many members it is among")
	everyFlag   = flag.Duration("every", 300*time.Millisecond, "how long between the starts of two of them: they share this machine's processors")
	settledFlag = flag.Duration("settled", 7*time.Minute, "how long they know each other before it is measured: longer than an idle peer stays one")
	watchedFlag = flag.Duration("watched", 2*time.Minute, "how long it is measured")
)

// BenchmarkAgentAmongMany measures one real agent in a mesh of others that are in
// this process, on UDP sockets of the loopback, with WireGuard, in real time.
func BenchmarkAgentAmongMany(t *testing.B) {
	program, others, settled, watched := *agentFlag, *othersFlag, *settledFlag, *watchedFlag
	out := io.Discard
	if program == "" {
		t.Skip("make bench PARTS=Agent runs this")
	}
	if *outFlag != "" {
		file, err := os.OpenFile(*outFlag, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		out = file
	}
	before := goleak.IgnoreCurrent()
	defer func() { // memberlist's last pings end by themselves within 20 s
		for deadline := time.Now().Add(30 * time.Second); goleak.Find(before) != nil && time.Now().Before(deadline); {
		}
	}()
	a := startAgent(t, program)
	c := &crowd{t: t, start: time.Now()}
	defer c.stop()
	for range others {
		c.addReal(a.secret, a.listen)
		time.Sleep(*everyFlag)
	}
	took := c.settleAmong(others+1, 10*time.Minute)
	fmt.Fprintf(os.Stderr, "scale: %d members and the agent know each other after %v\n", others, took.Round(time.Millisecond))
	began := a.usage(t)
	fmt.Fprintf(os.Stderr, "scale: agent then: %.1f MB resident, %.1f s of processor time\n", began.resident/1e6, began.cpu.Seconds())
	time.Sleep(settled)
	idle := a.usage(t)
	from := time.Now()
	time.Sleep(watched)
	after := a.usage(t)
	if n := a.devices(t); n != others*devicesEach {
		t.Errorf("the agent knows %d devices, want %d", n, others*devicesEach)
	}
	share := (after.cpu - idle.cpu).Seconds() / time.Since(from).Seconds()
	fmt.Printf("agent among %d: %.1f MB resident (%.1f MB of it its own), %.2f %% of a core while idle\n", others, after.resident/1e6, after.own/1e6, 100*share)
	chain := fmt.Sprintf("agent-among-%d", others)
	for _, row := range []struct {
		measure string
		value   float64
		unit    string
	}{{"rss_idle", after.resident, "B"}, {"rss_idle_anonymous", after.own, "B"}, {"idle_cpu", share, "cores"}} {
		if err := writeRow(out, chain, row.measure, row.value, row.unit); err != nil {
			t.Fatal(err)
		}
	}
}

// agentProcess is a running agent.
type agentProcess struct {
	program, dir, listen string
	secret               identity.Secret
	pid                  int
}

func startAgent(t testing.TB, program string) *agentProcess {
	a := &agentProcess{program: program, dir: t.TempDir(), listen: "127.0.0.1:51899"}
	if out, err := exec.Command(program, "init", "--dir", a.dir, "--name", "agent").CombinedOutput(); err != nil {
		t.Fatalf("serialspan init: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(a.dir, "cluster.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if a.secret, err = identity.ParseSecret(strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]any{
		"node":    map[string]any{"name": "agent", "state_dir": filepath.Join(a.dir, "state")},
		"cluster": map[string]any{"secret_file": filepath.Join(a.dir, "cluster.secret")},
		"mesh":    map[string]any{"listen": a.listen, "lan": false},
		"devices": map[string]any{"publish": "listed"},
		"control": map[string]any{"socket": a.socket(), "link_dirs": []string{a.dir}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(a.dir, "serialspan.yaml")
	if err := os.WriteFile(config, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(program, "agent", "--config", config)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	a.pid = agent.Process.Pid
	t.Cleanup(func() {
		_ = agent.Process.Signal(unix.SIGTERM)
		if err := agent.Wait(); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return a
}

func (a *agentProcess) socket() string { return filepath.Join(a.dir, "agent.sock") }

// usage is what a process uses: bytes resident, and of those what it shares
// with nothing on disk; processor time since its start.
type usage struct {
	resident, own float64
	cpu           time.Duration
}

func (a *agentProcess) usage(t testing.TB) (u usage) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); n == 1 {
			u.resident = kilobytes * 1024
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f kB", &kilobytes); n == 1 {
			u.own = kilobytes * 1024
		}
	}
	// The clock of another process, as clock_getcpuclockid(3) makes it.
	const scheduled = 2
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^a.pid<<3|scheduled), &spent); err != nil {
		t.Fatal(err)
	}
	u.cpu = time.Duration(spent.Nano())
	return u
}

func (a *agentProcess) devices(t testing.TB) int {
	listing := exec.Command(a.program, "devices", "--json")
	listing.Env = append(os.Environ(), "SERIALSPAN_CONTROL_SOCKET="+a.socket())
	text, err := listing.Output()
	if err != nil {
		t.Fatalf("serialspan devices: %v", err)
	}
	var all struct{ Devices []json.RawMessage }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return len(all.Devices)
}

// addReal starts a member on a socket of its own, which joins at an address.
func (c *crowd) addReal(secret identity.Secret, join string) {
	o := &one{crowd: c}
	name := fmt.Sprintf("node%d", len(c.all))
	store, err := mesh.OpenStore(c.t.TempDir(), "machine of "+name)
	if err != nil {
		c.t.Fatal(err)
	}
	socket, err := mesh.ListenUDP("127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := mesh.New(mesh.Config{
		Store: store, Secret: secret, Name: name, Socket: socket, Join: []string{join}, Protocols: protocols,
		OnBroadcast: o.onBroadcast, Known: o.knows, Digest: o.digest, OnDiffer: o.onDiffer,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	id, _ := store.Identity()
	o.prepare(m, id, secret.Cluster)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
		socket.Close()
		store.Close()
	}()
	o.end = func() {
		cancel()
		<-done
	}
	c.begin(o, name)
}
