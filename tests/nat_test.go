package tests

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// sites is an edge and a consumer, each behind a router of its own, and two
// cloud hosts that everybody reaches.
type sites struct {
	net            *lab.Network
	hosts          map[string]*lab.Host // behind routers
	cloud, spare   *lab.Agent
	edge, consumer *lab.Agent
	device         *lab.TTY
	secret         string
	join           lab.Settings
}

func newSites(t *testing.T, nat lab.NAT) *sites {
	t.Helper()
	s := &sites{net: lab.NewNetwork(t, "cloud", "spare"), device: lab.NewTTY(t)}
	edgeHost, consumerHost := s.net.AddSite(t, "edge", nat), s.net.AddSite(t, "consumer", nat)
	s.hosts = map[string]*lab.Host{"edge": edgeHost, "consumer": consumerHost}
	s.secret = lab.NewSecret(t)
	s.cloud = lab.StartAgent(t, s.net.Host("cloud"), "cloud", s.secret, nil)
	s.join = lab.Settings{"join": []string{s.net.Host("cloud").Addr.String(), s.net.Host("spare").Addr.String()}}
	s.spare = lab.StartAgent(t, s.net.Host("spare"), "spare", s.secret, lab.Settings{"cluster": s.join})
	s.edge = lab.StartAgent(t, edgeHost, "edge", s.secret, lab.Settings{
		"cluster": s.join, "devices": lab.Device("far-stick", s.device.Path),
	})
	s.consumer = lab.StartAgent(t, consumerHost, "consumer", s.secret, lab.Settings{"cluster": s.join})
	s.consumer.WaitDevice("far-stick", 20*time.Second)
	go echo(s.device)
	return s
}

// echo sends back what is written to a device until the test ends.
func echo(device *lab.TTY) {
	buf := make([]byte, 4096)
	for {
		n, err := device.Read(buf)
		if err != nil {
			return
		}
		if _, err := device.Write(buf[:n]); err != nil {
			return
		}
	}
}

// path returns how the consumer reaches the edge.
func (s *sites) path(t *testing.T) string {
	t.Helper()
	nodes, err := s.consumer.Client().Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == "edge" {
			return n.Path
		}
	}
	return ""
}

// open opens the stick as a stream of bytes.
func (s *sites) open(t *testing.T) io.ReadWriteCloser {
	t.Helper()
	return openRaw(t, s.consumer, "far-stick")
}

func openRaw(t *testing.T, a *lab.Agent, device string) io.ReadWriteCloser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := a.Client().OpenRaw(ctx, device, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return stream
}

// exchange sends numbered lines for so long and wants each back once, in order.
// It returns the longest wait for one.
func exchange(t *testing.T, stream io.ReadWriter, during time.Duration, at time.Duration, then func()) (longest time.Duration) {
	t.Helper()
	start := time.Now()
	done := false
	for i := 0; time.Since(start) < during; i++ {
		if !done && then != nil && time.Since(start) > at {
			done = true
			then()
		}
		line := fmt.Sprintf("%08d", i)
		sent := time.Now()
		if _, err := io.WriteString(stream, line); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
		back := make([]byte, len(line))
		if _, err := io.ReadFull(stream, back); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
		if string(back) != line {
			t.Fatalf("sent %q, came back %q", line, back)
		}
		longest = max(longest, time.Since(sent))
	}
	return longest
}

// Both sites are behind routers that keep ports: they reach each other.
func TestNATDirect(t *testing.T) {
	s := newSites(t, lab.Cone)
	stream := s.open(t)
	exchange(t, stream, 200*time.Millisecond, 0, nil)
	took := lab.WaitFor(t, "the straight path", 15*time.Second, func() error {
		exchange(t, stream, 20*time.Millisecond, 0, nil)
		if p := s.path(t); p != "direct" {
			return fmt.Errorf("path %q", p)
		}
		return nil
	})
	t.Logf("direct through two NATs after %v with a session", took)
	exchange(t, stream, time.Second, 0, nil)
	_, hints := doctorOn(t, s.consumer, router)
	wantOne(t, "consumer", hints, "router of this machine", "to one for all", s.hosts["consumer"].Outside.String()+":51821")
}

// Both routers take another port for each destination: a third member relays,
// and when it is killed under the running session, another does.
func TestNATRelay(t *testing.T) {
	s := newSites(t, lab.Symmetric)
	stream := s.open(t)
	exchange(t, stream, time.Second, 0, nil)
	_, hints := doctorOn(t, s.consumer, router)
	wantOne(t, "consumer", hints, "router of this machine", "to another for each member", "cloud sees it at "+s.hosts["consumer"].Outside.String())
	before := s.path(t)
	relay := map[string]*lab.Agent{"via cloud": s.cloud, "via spare": s.spare}[before]
	if relay == nil {
		t.Fatalf("path %q; want through cloud or spare", before)
	}
	longest := exchange(t, stream, 6*time.Second, 2*time.Second, relay.Kill)
	after := s.path(t)
	t.Logf("relay killed: %v without data, no byte lost; %s, then %s", longest, before, after)
	if after == before || !strings.HasPrefix(after, "via ") {
		t.Errorf("path %q after the relay was killed", after)
	}
	if longest > 3*time.Second {
		t.Errorf("%v without data", longest)
	}
}
