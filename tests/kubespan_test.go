package tests

import (
	"context"
	"fmt"
	"io"
	"slices"
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

// newSpanned starts the two agents with no configuration but the secret, and
// each with what more says of its name.
func newSpanned(t *testing.T, prepare func(*spanned), more map[string]lab.Settings) *spanned {
	t.Helper()
	s := &spanned{net: lab.NewNetwork(t, "edge", "consumer", "plain"), device: lab.NewTTY(t), secret: lab.NewSecret(t), before: map[string]string{}}
	s.span = s.net.AddKubeSpan(t, s.net.Host("edge"), s.net.Host("consumer"))
	if prepare != nil {
		prepare(s)
	}
	for _, name := range []string{"edge", "consumer"} {
		s.before[name] = s.net.Host(name).Settings()
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
	silent := exchange(t, stream, 3*time.Second, time.Second, func() { heal = s.span.Silence() })
	waitPath(t, s.consumer, "edge", "direct", time.Second)
	heal()
	waitPath(t, s.consumer, "edge", "kubespan", 30*time.Second)
	waitPath(t, s.edge, "consumer", "kubespan", 30*time.Second)
	exchange(t, stream, 500*time.Millisecond, 0, nil)
	for _, name := range []string{"edge", "consumer"} {
		if now := s.net.Host(name).Settings(); now != s.before[name] {
			t.Errorf("settings of %s before:\n%s\nand after:\n%s", name, s.before[name], now)
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
}
