package tests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/tests/internal/clock"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

const year = 365 * 24 * time.Hour

// afterStep is how long a session is watched after the step of a clock.
const afterStep = 10 * time.Second

// clockedAgent is an agent on a loopback with a wall clock of its own.
type clockedAgent struct {
	*clock.Process
	*client.Client

	name, dir string
	id        identity.NodeID
	listen    string
	config    string
	host      *lab.Host
	cmd       *exec.Cmd // nil: it was killed
}

// port is the UDP port.
func (a *clockedAgent) port() uint16 { return netip.MustParseAddrPort(a.listen).Port() }

// on runs f on the host, nil: here.
func on(host *lab.Host, f func() error) error {
	if host == nil {
		return f()
	}
	return host.Do(f)
}

// startClocked starts an agent on the host (nil: here) whose clock is offset
// ahead and returns when its control socket answers.
func startClocked(t *testing.T, host *lab.Host, name, secretFile string, offset time.Duration, more lab.Settings) *clockedAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sspclock") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, config := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "serialspan.yaml")
	a := &clockedAgent{name: name, dir: dir, config: config, host: host}
	text := agentConfig(t, name, lab.Settings{
		"node":    lab.Settings{"name": name, "state_dir": filepath.Join(dir, "state")},
		"cluster": lab.Settings{"secret_file": secretFile},
		"mesh":    lab.Settings{"listen": "127.0.0.1:0"},
		"control": lab.Settings{"socket": socket, "link_dirs": []string{dir}},
	}, more)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Client = client.New(client.Config{Socket: socket})
	a.start(t, offset)
	a.ready(t)
	t.Cleanup(func() {
		if a.cmd == nil {
			return
		}
		_ = a.cmd.Process.Signal(unix.SIGTERM)
		if err := a.cmd.Wait(); err != nil {
			t.Errorf("agent %s: %v", a.name, err)
		}
	})
	return a
}

// ready waits for the control socket to answer.
func (a *clockedAgent) ready(t *testing.T) {
	t.Helper()
	lab.WaitFor(t, "the control socket of "+a.name, 10*time.Second, func() error {
		status, err := a.Status(t.Context())
		a.id, a.listen = status.ID, status.Listen
		return err
	})
}

// start starts the process, with its clock offset ahead.
func (a *clockedAgent) start(t *testing.T, offset time.Duration) {
	t.Helper()
	cmd := exec.Command(lab.Program(t), "agent", "--config", a.config)
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	err := on(a.host, func() (err error) {
		a.Process, err = clock.Start(cmd, offset)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		lab.Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	a.cmd = cmd
	t.Cleanup(func() {
		if text := output.String(); t.Failed() {
			t.Logf("log of agent %s:\n%s", a.name, text[max(0, len(text)-16<<10):])
		}
	})
}

// kill ends the process as a power failure does.
func (a *clockedAgent) kill(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait() // it was killed
	a.cmd = nil
}

// TestClocks has a mesh whose members are in 2016, in 2100 and now, and steps
// their clocks while a session runs.
func TestClocks(t *testing.T) {
	secret, device := lab.NewSecret(t), lab.NewTTY(t)
	var host *lab.Host // whose loopback they are on: a namespace where that is possible
	var seen *wireguard
	if os.Geteuid() == 0 {
		host = lab.NewNetwork(t, "house").Host("house")
		seen = watchWireGuard(t, host)
	}
	until := func(y int) time.Duration {
		return time.Until(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)).Truncate(time.Second)
	}
	in2016, in2100 := until(2016), until(2100)
	third := startClocked(t, host, "third", secret, 0, nil)
	join := lab.Settings{"join": []string{third.listen}}
	rule := lab.Settings{"match": lab.Settings{"path": device.Path}, "name": "garage-stick", "hold": "60s"}
	edge := startClocked(t, host, "edge", secret, in2016, lab.Settings{
		"cluster": join, "devices": lab.Settings{"publish": "listed", "rules": []lab.Settings{rule}},
	})
	consumer := startClocked(t, host, "consumer", secret, in2100, lab.Settings{"cluster": join})

	took := waitDeviceState(t, consumer.Client, "garage-stick", client.DeviceAvailable, 15*time.Second)
	t.Logf("device of 2016 seen in 2100 after %v", took.Round(time.Millisecond))
	for _, a := range []*clockedAgent{third, edge, consumer} {
		waitAlive(t, a, 3)
	}
	link := filepath.Join(consumer.dir, "stick")
	if _, err := consumer.Attach(t.Context(), client.AttachRequest{Device: "garage-stick", PTY: &client.PTYSpec{Link: link}}); err != nil {
		t.Fatal(err)
	}
	app := lab.OpenTTY(t, link)
	waitAttachment(t, consumer.Client, link, client.AttachmentConnected)
	lab.Exchange(t, app, device, 64<<10)
	session := sessionOf(t, consumer.Client, "garage-stick").ID

	step := func(t *testing.T, a *clockedAgent, offset time.Duration) {
		t.Helper()
		if err := a.Step(offset); err != nil {
			t.Fatal(err)
		}
		trips, worst := talk(t, app, device, afterStep)
		t.Logf("%d round trips in %v, the longest took %v", trips, afterStep, worst.Round(time.Millisecond))
		if now := sessionOf(t, consumer.Client, "garage-stick").ID; now != session {
			t.Errorf("session is %s, it was %s", now, session)
		}
	}
	t.Run("edge forward 10 years", func(t *testing.T) { step(t, edge, in2016+10*year) })
	t.Run("consumer forward 10 years", func(t *testing.T) { step(t, consumer, in2100+10*year) })
	// WireGuard takes no handshake older than the last from the same key. A key
	// is burnt by a step back once it has initiated a handshake; while the other
	// side's has not, that one can make all the handshakes, and nothing shows.
	again := func(t *testing.T) { // the app has been hung up: that lasted longer than the hold time
		t.Helper()
		_ = app.Close()
		waitAttachment(t, consumer.Client, link, client.AttachmentWaiting)
		app = lab.OpenTTY(t, link)
		waitAttachment(t, consumer.Client, link, client.AttachmentConnected)
		session = sessionOf(t, consumer.Client, "garage-stick").ID
		talk(t, app, device, 0)
	}
	back := t.Run("both back 20 years, the next 10 s", func(t *testing.T) {
		lab.NeedRoot(t)
		makeBothInitiate(t, host, edge, consumer, seen)
		again(t)
		// Before the time of the first handshake, not only of the last.
		if err := consumer.Step(in2100 - 10*year); err != nil {
			t.Fatal(err)
		}
		step(t, edge, in2016-10*year)
	})
	t.Run("both back 20 years, the next handshake", func(t *testing.T) {
		lab.NeedRoot(t)
		if !back {
			t.Skip("the clocks were not set back")
		}
		makeHandshake(t, host, edge, consumer, seen)
		again(t)
	})
}

// waitAlive waits until the agent sees so many living members.
func waitAlive(t *testing.T, a *clockedAgent, members int) {
	t.Helper()
	lab.WaitFor(t, a.name+" to see all members", 15*time.Second, func() error {
		status, err := a.Status(t.Context())
		if err == nil && status.Members != members {
			err = errors.New(strconv.Itoa(status.Members) + " members")
		}
		return err
	})
}

// WireGuard's messages by the first four bytes of a datagram, section 5.4 of
// the white paper.
const (
	messageInitiation = 0x01000000
	messageResponse   = 0x02000000
	messageData       = 0x04000000
)

// makeBothInitiate returns when each of the two has initiated a WireGuard
// handshake with the other. The smaller NodeID has, at the start. So that the
// larger does, it is made deaf for WireGuard, not for probes: after 15 s without
// an answer it begins a handshake, asks the smaller to begin one, and 2 s later
// does it itself.
func makeBothInitiate(t *testing.T, host *lab.Host, a, b *clockedAgent, seen *wireguard) {
	t.Helper()
	smaller, larger := a, b
	if b.id.Compare(a.id) < 0 {
		smaller, larger = b, a
	}
	if seen.count(messageInitiation, smaller, larger) == 0 {
		t.Fatal("the smaller NodeID has initiated no handshake")
	}
	hear := deafen(t, host, smaller, larger, messageInitiation, messageData)
	took := lab.WaitFor(t, "the larger NodeID to initiate a handshake", 40*time.Second, func() error {
		if seen.count(messageInitiation, larger, smaller) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	hear()
	t.Logf("the larger NodeID, %s, initiated a handshake after %v", larger.name, took.Round(10*time.Millisecond))
}

// makeHandshake has the two carry nothing but probes and handshakes until one
// of them has answered a handshake.
func makeHandshake(t *testing.T, host *lab.Host, a, b *clockedAgent, seen *wireguard) {
	t.Helper()
	answers := func() int { return seen.count(messageResponse, a, b) + seen.count(messageResponse, b, a) }
	before := answers()
	hearThere, hearBack := deafen(t, host, a, b, messageData), deafen(t, host, b, a, messageData)
	took := lab.WaitFor(t, "a handshake", 60*time.Second, func() error {
		if answers() == before {
			return errors.New("none was answered")
		}
		return nil
	})
	hearThere()
	hearBack()
	t.Logf("a handshake was answered after %v", took.Round(10*time.Millisecond))
}

// deafen drops messages of some kinds on their way until hear is called.
func deafen(t *testing.T, host *lab.Host, from, to *clockedAgent, kinds ...uint32) (hear func()) {
	t.Helper()
	lab.NeedTools(t, "nft")
	nft := func(script string) {
		t.Helper()
		cmd := host.Command(t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v\n%s", err, out)
		}
	}
	table := fmt.Sprintf("inet deaf%d", to.port())
	script := "table " + table + " {\nchain input {\ntype filter hook input priority 0\n"
	for _, kind := range kinds {
		script += fmt.Sprintf("udp sport %d udp dport %d @th,64,32 %#x drop\n", from.port(), to.port(), kind)
	}
	nft(script + "}\n}\n")
	return func() { nft("delete table " + table + "\n") }
}

// waitAttachment waits until the only attachment, at where, is in the state.
func waitAttachment(t *testing.T, c *client.Client, where string, state client.AttachmentState) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("%s to be %s", where, state), 30*time.Second, func() error {
		all, err := c.Attachments(t.Context())
		if err == nil && (len(all) != 1 || all[0].Where != where || all[0].State != state) {
			err = fmt.Errorf("attachments are %+v", all)
		}
		return err
	})
}

// wireguard counts WireGuard's messages on a loopback.
type wireguard struct {
	mu   sync.Mutex
	seen map[wireguardMessage]int
}

// wireguardMessage is a kind of message between two ports.
type wireguardMessage struct {
	kind     uint32
	from, to uint16
}

// count returns how many of the kind went from one agent to the other.
func (w *wireguard) count(kind uint32, from, to *clockedAgent) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[wireguardMessage{kind, from.port(), to.port()}]
}

// watchWireGuard counts messages on the host's loopback until the test ends.
func watchWireGuard(t *testing.T, host *lab.Host) *wireguard {
	t.Helper()
	const ip = 0x0008 // ETH_P_IP in network byte order
	var file *os.File
	err := host.Do(func() error {
		loopback, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, ip)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "loopback")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: loopback.Index})
	})
	if err != nil {
		t.Fatalf("watch the loopback: %v", err)
	}
	w := &wireguard{seen: map[wireguardMessage]int{}}
	var reading sync.WaitGroup
	reading.Go(func() {
		for buffer := make([]byte, 2048); ; {
			n, err := file.Read(buffer)
			if err != nil {
				return
			}
			if m, ok := wireguardOf(buffer[:n]); ok {
				w.mu.Lock()
				w.seen[m]++
				w.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		_ = file.Close()
		reading.Wait()
	})
	return w
}

// wireguardOf returns which message of WireGuard an IPv4 packet may be.
func wireguardOf(packet []byte) (wireguardMessage, bool) {
	const udp, headers = 17, 20 + 8
	if len(packet) < headers+4 || packet[0] != 0x45 || packet[9] != udp {
		return wireguardMessage{}, false
	}
	return wireguardMessage{
		kind: binary.BigEndian.Uint32(packet[headers:]),
		from: binary.BigEndian.Uint16(packet[20:]), to: binary.BigEndian.Uint16(packet[22:]),
	}, true
}
