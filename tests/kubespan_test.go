package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// spanned is an edge and a consumer in one KubeSpan, and a plain host beside
// them that nobody was told of.
type spanned struct {
	net            *lab.Network
	span           *lab.KubeSpan
	edge, consumer *lab.Agent
	device         *lab.TTY
	secret         string
	before         map[string]string // settings of each host without an agent
}

// linkLocal is the route to the address that the kernel gives eth0.
var linkLocal = regexp.MustCompile(`(?m)^local fe80::\S+ dev eth0 `)

// newSpanned starts the two agents with no configuration but the secret, and
// each with what more says of its name.
func newSpanned(t *testing.T, prepare func(*spanned), more map[string]lab.Settings) *spanned {
	t.Helper()
	s := &spanned{net: lab.NewNetwork(t, "edge", "consumer", "plain"), device: lab.NewTTY(t), secret: lab.NewSecret(t), before: map[string]string{}}
	s.span = s.net.AddKubeSpan(t, s.net.Host("edge"), s.net.Host("consumer"))
	s.net.SetMTU(t, "consumer", 1420)
	if prepare != nil {
		prepare(s)
	}
	for _, name := range []string{"edge", "consumer"} {
		lab.WaitFor(t, "the kernel to be done with addresses of "+name, 10*time.Second, func() error {
			switch s.before[name] = s.net.Host(name).Settings(); {
			case !linkLocal.MatchString(s.before[name]):
				return errors.New("eth0 has none of its own") // that comes after the carrier
			case strings.Contains(s.before[name], "tentative"):
				return errors.New("one is tentative")
			}
			return nil
		})
	}
	edge := lab.Settings{"devices": lab.Device("far-stick", s.device.Path)}
	for key, value := range more["edge"] {
		edge[key] = value
	}
	s.edge = lab.StartAgent(t, s.net.Host("edge"), "edge", s.secret, edge)
	s.consumer = lab.StartAgent(t, s.net.Host("consumer"), "consumer", s.secret, more["consumer"])
	go func() { // the stick echoes
		_, _ = io.Copy(s.device, s.device)
	}()
	return s
}

// onlyIn returns the lines of a that are not in b.
func onlyIn(a, b string) string {
	lines := slices.Collect(strings.Lines(a))
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(b, l) }), "")
}

// nodeOf returns what the agent says of a member.
func nodeOf(t *testing.T, a *lab.Agent, name string) client.Node {
	t.Helper()
	nodes, err := a.Client().Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n client.Node) bool { return n.Name == name })
	if i < 0 {
		return client.Node{}
	}
	return nodes[i]
}

// waitPath waits until the agent reaches the member on the path.
func waitPath(t *testing.T, a *lab.Agent, name, path string, deadline time.Duration) time.Duration {
	t.Helper()
	return lab.WaitFor(t, fmt.Sprintf("%s to reach %s on path %q", a.Name, name, path), deadline, func() error {
		if n := nodeOf(t, a, name); n.Path != path {
			return fmt.Errorf("it is %q", n.Path)
		}
		return nil
	})
}

func (s *spanned) open(t *testing.T) io.ReadWriteCloser {
	t.Helper()
	s.consumer.WaitDevice("far-stick", 20*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := s.consumer.Client().OpenRaw(ctx, "far-stick", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return stream
}

// TestKubeSpan: two nodes of a KubeSpan find and reach each other through it
// with nothing configured but the secret; the tunnel takes over when it dies,
// whichever way, and hands back when it is well again. Of Talos's settings
// nothing has changed afterwards.
func TestKubeSpan(t *testing.T) {
	s := newSpanned(t, nil, nil)
	stream := s.open(t)
	waitPath(t, s.consumer, "edge", "kubespan", 10*time.Second)
	waitPath(t, s.edge, "consumer", "kubespan", 10*time.Second)
	exchange(t, stream, time.Second, 0, nil)
	if n := nodeOf(t, s.consumer, "edge"); n.Endpoint != fmt.Sprintf("[%s]:51821", s.span.Devices[0].Address) {
		t.Errorf("endpoint %s", n.Endpoint)
	}
	var heal func()
	silent := exchange(t, stream, 3*time.Second, time.Second, func() { heal = s.net.SilenceKubeSpan(t) })
	waitPath(t, s.consumer, "edge", "direct", time.Second)
	heal()
	waitPath(t, s.consumer, "edge", "kubespan", 30*time.Second)
	waitPath(t, s.edge, "consumer", "kubespan", 30*time.Second)
	exchange(t, stream, 500*time.Millisecond, 0, nil)
	for _, name := range []string{"edge", "consumer"} {
		if now := s.net.Host(name).Settings(); now != s.before[name] {
			t.Errorf("settings of %s before:\n%s\nand after:\n%s", name, onlyIn(s.before[name], now), onlyIn(now, s.before[name]))
		}
	}
	removed := exchange(t, stream, 3*time.Second, time.Second, func() { s.span.Remove(1) })
	waitPath(t, s.consumer, "edge", "direct", time.Second)
	s.span.Start(1)
	waitPath(t, s.consumer, "edge", "kubespan", 30*time.Second)
	exchange(t, stream, 500*time.Millisecond, 0, nil)
	t.Logf("without data, no byte lost: peers dead %v, device removed %v", silent, removed)
	if max(silent, removed) > time.Second {
		t.Errorf("more than 1 s without data")
	}
	k := statusOf(t, s.consumer)
	if !k.Present || k.Rights != "NET_ADMIN" || k.Bypass != "mark" || !k.Rule || !k.Forced || len(k.Peers) != 1 || k.Peers[0].Node != "edge" || k.Peers[0].Class != "private" {
		t.Errorf("status: %+v", k)
	}
}

func statusOf(t *testing.T, a *lab.Agent) client.KubeSpan {
	t.Helper()
	status, err := a.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.KubeSpan == nil {
		return client.KubeSpan{}
	}
	return *status.KubeSpan
}

// TestKubeSpanWithoutRights: agents that may do nothing special use the KubeSpan
// just the same. When its peers die, Talos forces the tunnel into it, too; a
// member outside passes messages on.
func TestKubeSpanWithoutRights(t *testing.T) {
	join := lab.Settings{}
	s := newSpanned(t, func(s *spanned) {
		s.span.WithoutNetAdmin(0)
		s.span.WithoutNetAdmin(1)
		join["cluster"] = lab.Settings{"join": []string{s.net.Host("plain").Addr.String()}}
		lab.StartAgent(t, s.net.Host("plain"), "plain", s.secret, nil)
	}, map[string]lab.Settings{"edge": join, "consumer": join})
	stream := s.open(t)
	waitPath(t, s.consumer, "edge", "kubespan", 10*time.Second)
	waitPath(t, s.edge, "consumer", "kubespan", 10*time.Second)
	if k := statusOf(t, s.consumer); !k.Present || k.Rights != "address only" || k.Bypass != "relay" || k.Peers != nil {
		t.Errorf("status: %+v", k)
	}
	var heal func()
	silent := exchange(t, stream, 4*time.Second, time.Second, func() { heal = s.net.SilenceKubeSpan(t) })
	waitPath(t, s.consumer, "edge", "via plain", time.Second)
	t.Logf("without data until the relay took over, no byte lost: %v", silent)
	if silent > time.Second {
		t.Errorf("more than 1 s without data")
	}
	heal()
	waitPath(t, s.consumer, "edge", "kubespan", 30*time.Second)
	exchange(t, stream, 500*time.Millisecond, 0, nil)
}

// TestKubeSpanAddress: the address in the KubeSpan vanishes, changes and comes
// back while the agents run.
func TestKubeSpanAddress(t *testing.T) {
	s := newSpanned(t, nil, nil)
	stream := s.open(t)
	waitPath(t, s.consumer, "edge", "kubespan", 10*time.Second)
	host, address, other := s.net.Host("consumer"), s.span.Devices[1].Address, s.span.Devices[1].Address.Next()
	waitAddress := func(want string) {
		t.Helper()
		lab.WaitFor(t, "the edge to hear of address "+want, 5*time.Second, func() error {
			if n := nodeOf(t, s.edge, "consumer"); n.KubeSpan.String() != want {
				return fmt.Errorf("it is %v", n.KubeSpan)
			}
			return nil
		})
	}
	waitAddress(address.String())
	longest := exchange(t, stream, 2*time.Second, 500*time.Millisecond, func() { host.IP(fmt.Sprintf("-6 address del %s/64 dev kubespan", address)) })
	waitAddress("invalid IP")
	waitPath(t, s.consumer, "edge", "direct", time.Second)
	waitPath(t, s.edge, "consumer", "direct", time.Second)
	host.IP(fmt.Sprintf("-6 address add %s/64 dev kubespan nodad", other))
	waitAddress(other.String())
	exchange(t, stream, time.Second, 0, nil)
	host.IP(fmt.Sprintf("-6 address del %s/64 dev kubespan", other))
	host.IP(fmt.Sprintf("-6 address add %s/64 dev kubespan nodad", address))
	waitAddress(address.String())
	waitPath(t, s.consumer, "edge", "kubespan", 30*time.Second)
	waitPath(t, s.edge, "consumer", "kubespan", 30*time.Second)
	exchange(t, stream, time.Second, 0, nil)
	t.Logf("address taken away: %v without data, no byte lost", longest)
	if longest > time.Second {
		t.Errorf("more than 1 s without data")
	}
}
