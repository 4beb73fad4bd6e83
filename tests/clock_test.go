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
	a := &clockedAgent{name: name, dir: dir}
	socket, config := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "serialspan.yaml")
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
	a.start(t, host, exec.Command(lab.Program(t), "agent", "--config", config), offset)
	lab.WaitFor(t, "the control socket of "+name, 10*time.Second, func() error {
		status, err := a.Status(t.Context())
		a.id, a.listen = status.ID, status.Listen
		return err
	})
	return a
}

func (a *clockedAgent) start(t *testing.T, host *lab.Host, cmd *exec.Cmd, offset time.Duration) {
	t.Helper()
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	err := on(host, func() (err error) {
		a.Process, err = clock.Start(cmd, offset)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		lab.Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("agent %s: %v", a.name, err)
		}
		if text := output.String(); t.Failed() {
			t.Logf("log of agent %s:\n%s", a.name, text[max(0, len(text)-16<<10):])
		}
	})
}

// TestClocks has a mesh whose members are in 2016, in 2100 and now, and steps
// their clocks while a session runs.
func TestClocks(t *testing.T) {
	secret, device := lab.NewSecret(t), lab.NewTTY(t)
	var host *lab.Host // whose loopback they are on: a namespace where that is possible
	var seen *handshakes
	if os.Geteuid() == 0 {
		host = lab.NewNetwork(t, "house").Host("house")
		seen = watchHandshakes(t, host)
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
	t.Run("both back 10 years, the next 10 s", func(t *testing.T) {
		makeBothInitiate(t, host, edge, consumer, seen)
		// That may have lasted longer than the hold time: begin anew.
		_ = app.Close()
		waitAttachment(t, consumer.Client, link, client.AttachmentWaiting)
		app = lab.OpenTTY(t, link)
		waitAttachment(t, consumer.Client, link, client.AttachmentConnected)
		session = sessionOf(t, consumer.Client, "garage-stick").ID
		talk(t, app, device, 0)
		if err := consumer.Step(in2100); err != nil {
			t.Fatal(err)
		}
		step(t, edge, in2016)
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

// makeBothInitiate returns when each of the two has initiated a WireGuard
// handshake with the other. The smaller NodeID has, at the start. So that the
// larger does, it is made deaf for WireGuard, not for probes: after 15 s without
// an answer it begins a handshake, asks the smaller to begin one, and 2 s later
// does it itself.
func makeBothInitiate(t *testing.T, host *lab.Host, a, b *clockedAgent, seen *handshakes) {
	t.Helper()
	lab.NeedRoot(t)
	lab.NeedTools(t, "nft")
	smaller, larger := a, b
	if b.id.Compare(a.id) < 0 {
		smaller, larger = b, a
	}
	if seen.between(smaller, larger) == 0 {
		t.Fatal("the smaller NodeID has initiated no handshake")
	}
	nft := func(script string) {
		t.Helper()
		cmd := host.Command(t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v\n%s", err, out)
		}
	}
	// The first four bytes of a datagram: 1 is an initiation, 4 is data.
	nft(fmt.Sprintf(`table inet deaf {
	chain input {
		type filter hook input priority 0
		udp sport %d udp dport %d @th,64,32 { 0x01000000, 0x04000000 } drop
	}
}
`, smaller.port(), larger.port()))
	took := lab.WaitFor(t, "the larger NodeID to initiate a handshake", 40*time.Second, func() error {
		if seen.between(larger, smaller) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	nft("delete table inet deaf\n")
	t.Logf("the larger NodeID, %s, initiated a handshake after %v", larger.name, took.Round(10*time.Millisecond))
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

// handshakes counts initiations on the loopback by the ports, from and to.
type handshakes struct {
	mu    sync.Mutex
	count map[[2]uint16]int
}

// between returns how many went from one agent to another.
func (h *handshakes) between(from, to *clockedAgent) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[[2]uint16{from.port(), to.port()}]
}

// watchHandshakes counts those on the host's loopback until the test ends.
func watchHandshakes(t *testing.T, host *lab.Host) *handshakes {
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
	h := &handshakes{count: map[[2]uint16]int{}}
	var reading sync.WaitGroup
	reading.Go(func() {
		for buffer := make([]byte, 2048); ; {
			n, err := file.Read(buffer)
			if err != nil {
				return
			}
			if from, to, ok := initiation(buffer[:n]); ok {
				h.mu.Lock()
				h.count[[2]uint16{from, to}]++
				h.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		_ = file.Close()
		reading.Wait()
	})
	return h
}

// initiation tells whether the IPv4 packet is a WireGuard handshake initiation:
// 148 bytes that begin with 1, 0, 0, 0.
func initiation(packet []byte) (from, to uint16, ok bool) {
	const udp, headers, size = 17, 20 + 8, 148
	if len(packet) != headers+size || packet[0] != 0x45 || packet[9] != udp || binary.LittleEndian.Uint32(packet[headers:]) != 1 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(packet[20:]), binary.BigEndian.Uint16(packet[22:]), true
}
