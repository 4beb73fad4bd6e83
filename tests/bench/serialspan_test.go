package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// deviceName is that of the device in every cluster here.
const deviceName = "bench"

// quietly is what every agent is started with: the default log level, where lab
// writes each event.
func quietly(more lab.Settings) lab.Settings {
	all := lab.Settings{"log": lab.Settings{"level": "info"}}
	for key, value := range more {
		all[key] = value
	}
	return all
}

// joining returns the key cluster for joining at hosts.
func joining(hosts ...*lab.Host) lab.Settings {
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, h.Addr.String())
	}
	return lab.Settings{"join": addresses}
}

// cluster is an edge with a device, a consumer, and perhaps a third.
type cluster struct {
	network               *lab.Network
	device                *device
	edge, consumer, third *lab.Agent // third may be nil
	link                  string     // of the attachment on the consumer
}

// newCluster starts agents on a network whose hosts are edge, consumer and,
// with a third that both join at, third.
func newCluster(tb testing.TB, program string, n *lab.Network, withThird bool) *cluster {
	tb.Helper()
	c := &cluster{network: n, device: newDevice(tb)}
	secret, at := lab.NewSecretBy(tb, program), n.Host("edge")
	edge := lab.Settings{"devices": lab.Device(deviceName, c.device.Path)}
	if withThird {
		at = n.Host("third")
		c.third = lab.StartAgentBy(tb, program, at, "third", secret, quietly(nil))
		edge["cluster"] = joining(at)
	}
	c.edge = lab.StartAgentBy(tb, program, n.Host("edge"), "edge", secret, quietly(edge))
	c.consumer = lab.StartAgentBy(tb, program, n.Host("consumer"), "consumer", secret, quietly(lab.Settings{"cluster": joining(at)}))
	c.consumer.WaitDevice(deviceName, 20*time.Second)
	c.link = filepath.Join(c.consumer.Dir, "tty")
	c.consumer.MustRun("attach", deviceName, "--pty", c.link)
	return c
}

// chain opens the attachment.
func (c *cluster) chain(tb testing.TB) *chain {
	tb.Helper()
	app := lab.OpenTTY(tb, c.link)
	c.consumer.WaitAttachment(c.link, client.AttachmentConnected, 20*time.Second)
	answers(tb, app)
	return &chain{device: c.device, app: app, pids: c.pids}
}

func (c *cluster) pids() []int {
	pids := []int{c.edge.PID, c.consumer.PID}
	if c.third != nil {
		pids = append(pids, c.third.PID)
	}
	return pids
}

// path returns how the consumer reaches the edge.
func (c *cluster) path(tb testing.TB) (string, error) {
	nodes, err := c.consumer.Client().Nodes(tb.Context())
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if n.Name == "edge" {
			return n.Path, nil
		}
	}
	return "", errors.New("no node edge")
}

// wantPath waits until the consumer reaches the edge in that way.
func (c *cluster) wantPath(tb testing.TB, want string, deadline time.Duration) {
	tb.Helper()
	lab.WaitFor(tb, "the path to be "+want, deadline, func() error {
		is, err := c.path(tb)
		if err == nil && is != want {
			err = fmt.Errorf("it is %q", is)
		}
		return err
	})
}

func openTunnel(tb testing.TB, program string) (*chain, string) {
	c := newCluster(tb, program, hosts(tb), false)
	one := c.chain(tb)
	c.wantPath(tb, "direct", 20*time.Second)
	return one, ""
}

func openRelay(tb testing.TB, program string) (*chain, string) {
	n := hosts(tb, "third")
	n.Block(tb, n.Host("edge").Addr, n.Host("consumer").Addr)
	c := newCluster(tb, program, n, true)
	one := c.chain(tb)
	c.wantPath(tb, "via third", 20*time.Second)
	return one, ""
}

// kubeSpanAddresses are a /64 as Talos makes it for KubeSpan: fd, 6 random
// bytes, 02 (siderolabs/talos pkg/machinery/resources/network/ula.go).
var kubeSpanAddresses = [2]netip.Prefix{
	netip.MustParsePrefix("fdbe:9c11:2233:4402::a/64"),
	netip.MustParsePrefix("fdbe:9c11:2233:4402::b/64"),
}

func openKubeSpan(tb testing.TB, program string) (*chain, string) {
	n := hosts(tb)
	between := wireguard(tb, "kubespan", [2]*lab.Host{n.Host("edge"), n.Host("consumer")}, kubeSpanAddresses)
	return onKubeSpan(tb, program, n, between)
}

// openTrusted has a plain Ethernet link in KubeSpan's place, which shows what
// SerialSpan itself costs where the kernel encrypts.
func openTrusted(tb testing.TB, program string) (*chain, string) {
	n := hosts(tb)
	n.AddLink(tb, "kubespan", map[string]netip.Prefix{"edge": kubeSpanAddresses[0], "consumer": kubeSpanAddresses[1]})
	return onKubeSpan(tb, program, n, nil)
}

// onKubeSpan waits for the agents to use the link named kubespan. Whether they
// do is for the path that they show to say: a revision that reads no KubeSpan,
// or not one of this kind of link, never shows it.
func onKubeSpan(tb testing.TB, program string, n *lab.Network, between []int) (*chain, string) {
	c := newCluster(tb, program, n, false)
	one := c.chain(tb)
	var path string
	deadline := time.Now().Add(kubeSpanTime)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		var err error
		if path, err = c.path(tb); err == nil && strings.HasPrefix(path, "kubespan") {
			one.pids = func() []int { return slices.Concat(between, c.pids()) }
			return one, ""
		}
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		}
	}
	return nil, fmt.Sprintf("not available in this revision: with a link named kubespan the path is %q", path)
}

// kubeSpanTime is how long a KubeSpan may take to be found and used.
const kubeSpanTime = 12 * time.Second
