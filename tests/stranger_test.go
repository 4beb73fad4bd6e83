package tests

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

const (
	meshPort     = 51821
	joinFirstLen = 1200 // bytes of a first join message
	junkPackets  = 10_000
)

// uncarried are the words in the names of counters for datagrams that came to
// nothing.
var uncarried = regexp.MustCompile(`junk|stray|limited|dropped|refused`)

// TestWrongSecret has an agent with another cluster's secret knock at a node:
// it gets no answer, leaves no trace but a count, and tells its user what to
// look at. The node sends nothing at all.
func TestWrongSecret(t *testing.T) {
	network := lab.NewNetwork(t, "edge", "stranger", "decoy")
	edgeHost, decoyHost := network.Host("edge"), network.Host("decoy")
	device := lab.NewTTY(t)
	edge := lab.StartAgent(t, edgeHost, "edge", lab.NewSecret(t), lab.Settings{"devices": lab.Device("garage-stick", device.Path)})
	decoy := listenUDP(t, decoyHost, meshPort)
	sentBefore, stateBefore := datagramsSent(t, edgeHost), stateFiles(t, edge)

	stranger := lab.StartAgent(t, network.Host("stranger"), "stranger", lab.NewSecret(t), lab.Settings{
		"cluster": lab.Settings{"join": []string{edgeHost.Addr.String(), decoyHost.Addr.String()}},
	})
	// What the stranger sends goes to the decoy too: the same as the edge sees.
	first := make([]byte, 2048)
	_ = decoy.SetReadDeadline(time.Now().Add(15 * time.Second))
	n, _, err := decoy.ReadFromUDPAddrPort(first)
	if err != nil {
		t.Fatalf("first join message: %v", err)
	}
	first = first[:n]
	if len(first) != joinFirstLen {
		t.Errorf("first join message has %d bytes, want %d", len(first), joinFirstLen)
	}
	told := fmt.Sprintf("no answer from %s: unreachable, or another secret (compare `serialspan secret id`)", netip.AddrPortFrom(edgeHost.Addr, meshPort))
	lab.WaitFor(t, "the stranger to say so", 30*time.Second, func() error {
		out, err := stranger.Run("status")
		if err == nil && !strings.Contains(out, told) {
			err = fmt.Errorf("status has no %q:\n%s", told, out)
		}
		if err == nil && !strings.Contains(stranger.Log(), told) {
			err = fmt.Errorf("its log has no %q", told)
		}
		return err
	})
	waitUncarried(t, edge, 1)

	// Its message from elsewhere, as a recording.
	before := uncarriedBy(t, edge)
	sendUDP(t, decoy, edgeHost, first)
	waitUncarried(t, edge, before+1)

	wantSilence(t, edge, decoy, sentBefore)
	nodes, err := edge.Client().Nodes(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Errorf("the edge sees %d nodes (%v), want itself only", len(nodes), err)
	}
	if after := stateFiles(t, edge); !equalFiles(stateBefore, after) {
		t.Errorf("state changed: %d files before, %d after, or their content", len(stateBefore), len(after))
	}
}

// TestJunk sends what no member sends, of every type byte and size.
func TestJunk(t *testing.T) {
	network := lab.NewNetwork(t, "edge", "stranger", "consumer")
	edgeHost := network.Host("edge")
	device, secret := lab.NewTTY(t), lab.NewSecret(t)
	edge := lab.StartAgent(t, edgeHost, "edge", secret, lab.Settings{"devices": lab.Device("garage-stick", device.Path)})
	conn := listenUDP(t, network.Host("stranger"), 0)
	sentBefore, memoryBefore := datagramsSent(t, edgeHost), residentMemory(t, edge)

	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	const batch = 100 // what the socket's buffer certainly holds
	for sent := 0; sent < junkPackets; sent += batch {
		before := uncarriedBy(t, edge)
		for range batch {
			sendUDP(t, conn, edgeHost, junk(random))
		}
		waitUncarried(t, edge, before+batch)
	}
	wantSilence(t, edge, conn, sentBefore)
	if grown := residentMemory(t, edge) - memoryBefore; grown > 8<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}

	// And it is still there for those who hold the secret.
	consumer := lab.StartAgent(t, network.Host("consumer"), "consumer", secret, lab.Settings{
		"cluster": lab.Settings{"join": []string{edgeHost.Addr.String()}},
	})
	consumer.WaitDevice("garage-stick", 15*time.Second)
}

// junk returns a datagram of random bytes; often its type and size are those
// of a message that exists.
func junk(random *rand.Rand) []byte {
	sizes := []int{1, 32, 57, 64, 92, 148, joinFirstLen, 1 + random.IntN(1400), 1 + random.IntN(1400), 1 + random.IntN(1400)}
	p := make([]byte, sizes[random.IntN(len(sizes))])
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	if random.IntN(2) == 0 {
		p[0] = byte(random.IntN(12))
		clear(p[1:min(4, len(p))]) // WireGuard's reserved bytes
	}
	return p
}

// wantSilence fails the test if the agent's host has sent any datagram, or conn
// has got one.
func wantSilence(t *testing.T, agent *lab.Agent, conn *net.UDPConn, sentBefore uint64) {
	t.Helper()
	if sent := datagramsSent(t, agent.Host()) - sentBefore; sent != 0 {
		t.Errorf("%s has sent %d datagrams, want none", agent.Name, sent)
	}
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buffer := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if from.Addr().Unmap() == agent.Host().Addr {
			t.Errorf("%s has answered with %d bytes", agent.Name, n)
			return
		}
	}
}

// datagramsSent returns how many UDP datagrams and ICMP messages the host has
// sent since it was made.
func datagramsSent(t *testing.T, host *lab.Host) uint64 {
	t.Helper()
	var sent uint64
	for _, query := range []struct{ file, group, field string }{
		{"/proc/net/snmp", "Udp:", "OutDatagrams"},
		{"/proc/net/snmp", "Icmp:", "OutMsgs"},
	} {
		out, err := host.Command(context.Background(), "cat", query.file).Output()
		if err != nil {
			t.Fatal(err)
		}
		n, err := counter(string(out), query.group, query.field)
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	return sent
}

// counter reads a table of /proc/net/snmp: a line of names, a line of numbers.
func counter(text, group, field string) (uint64, error) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != group:
		case names == nil:
			names = fields
		default:
			for i, name := range names {
				if name == field {
					var n uint64
					_, err := fmt.Sscan(fields[i], &n)
					return n, err
				}
			}
		}
	}
	return 0, fmt.Errorf("no %s%s", group, field)
}

// uncarriedBy returns how many datagrams came to nothing at the agent.
func uncarriedBy(t *testing.T, agent *lab.Agent) uint64 {
	t.Helper()
	status, err := agent.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for name, count := range status.Counters {
		if uncarried.MatchString(name) {
			sum += count
		}
	}
	return sum
}

func waitUncarried(t *testing.T, agent *lab.Agent, atLeast uint64) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("%s to count %d junk datagrams", agent.Name, atLeast), 10*time.Second, func() error {
		if n := uncarriedBy(t, agent); n < atLeast {
			status, err := agent.Client().Status(t.Context())
			return fmt.Errorf("it has %d: %v, %v", n, status.Counters, err)
		}
		return nil
	})
}

func residentMemory(t *testing.T, agent *lab.Agent) int64 {
	t.Helper()
	bytes, err := agent.ResidentMemory()
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func listenUDP(t *testing.T, host *lab.Host, port int) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := host.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func sendUDP(t *testing.T, conn *net.UDPConn, to *lab.Host, datagram []byte) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort(datagram, netip.AddrPortFrom(to.Addr, meshPort)); err != nil {
		t.Fatal(err)
	}
}

// stateFiles returns the files of the agent's state directory with content.
func stateFiles(t *testing.T, agent *lab.Agent) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	dir := filepath.Join(agent.Dir, "state")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name()] = text
		}
	}
	return files
}

func equalFiles(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, text := range a {
		if other, there := b[name]; !there || !bytes.Equal(text, other) {
			return false
		}
	}
	return true
}
