package tests

import (
	"maps"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// threeHosts is the cluster of most tests: the edge has the device, the
// consumer wants it, and both were told of the third host only.
type threeHosts struct {
	secret                string
	rule                  lab.Settings // of the device, beside its path and name
	network               *lab.Network
	edge, consumer, third *lab.Agent
}

// newThreeHosts starts the agents with a device at path and returns when the
// consumer can use it.
func newThreeHosts(t *testing.T, device, path string) *threeHosts {
	t.Helper()
	c := &threeHosts{network: lab.NewNetwork(t, "edge", "consumer", "third"), secret: lab.NewSecret(t)}
	c.start(t, device, path)
	return c
}

func (c *threeHosts) start(t *testing.T, device, path string) {
	t.Helper()
	third := c.network.Host("third")
	join := lab.Settings{"join": []string{third.Addr.String()}}
	c.third = lab.StartAgent(t, third, "third", c.secret, nil)
	devices := lab.Device(device, path)
	maps.Copy(devices["rules"].([]lab.Settings)[0], c.rule)
	c.edge = lab.StartAgent(t, c.network.Host("edge"), "edge", c.secret, lab.Settings{"cluster": join, "devices": devices})
	c.consumer = lab.StartAgent(t, c.network.Host("consumer"), "consumer", c.secret, lab.Settings{"cluster": join})
	took := c.consumer.WaitDevice(device, 15*time.Second)
	t.Logf("device usable on the consumer %v after its control socket answered", took.Round(time.Millisecond))
}

// attachPTY attaches the device on the consumer and returns the link.
func (c *threeHosts) attachPTY(t *testing.T, device string) string {
	t.Helper()
	link := filepath.Join(c.consumer.Dir, "stick")
	c.consumer.MustRun("attach", device, "--pty", link)
	return link
}

// attachTCP attaches the device on the consumer and returns the address there.
func (c *threeHosts) attachTCP(t *testing.T, device string) string {
	t.Helper()
	const address = "127.0.0.1:6639"
	c.consumer.MustRun("attach", device, "--tcp", address)
	return address
}

// TestBytesAreExact sends every byte value in random order both ways at once.
func TestBytesAreExact(t *testing.T) {
	device := lab.NewTTY(t)
	c := newThreeHosts(t, "garage-stick", device.Path)

	t.Run("PTY", func(t *testing.T) {
		link := c.attachPTY(t, "garage-stick")
		app := lab.OpenTTY(t, link)
		c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
		lab.Exchange(t, app, device, 64<<10)
		c.wantCounted(t, link, 64<<10)
		_ = app.Close()
		c.consumer.MustRun("detach", link)
		c.consumer.WaitDevice("garage-stick", 10*time.Second)
	})
	t.Run("TCP", func(t *testing.T) {
		address := c.attachTCP(t, "garage-stick")
		var app net.Conn
		err := c.network.Host("consumer").Do(func() (err error) {
			app, err = net.DialTimeout("tcp", address, 5*time.Second)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = app.Close() })
		c.consumer.WaitAttachment(address, client.AttachmentConnected, 10*time.Second)
		lab.Exchange(t, app, device, 64<<10)
		c.wantCounted(t, address, 64<<10)
	})
}

// wantCounted fails the test unless the attachment at where has carried size
// bytes each way, not one more.
func (c *threeHosts) wantCounted(t *testing.T, where string, size uint64) {
	t.Helper()
	all, err := c.consumer.Client().Attachments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.Where == where && (a.Sent != size || a.Received != size) {
			t.Errorf("attachment %s sent %d and received %d bytes, want %d each", where, a.Sent, a.Received, size)
		}
	}
}

// TestLossyNetwork: where one packet in ten is lost, the three find each other,
// and bytes are exact.
func TestLossyNetwork(t *testing.T) {
	device := lab.NewTTY(t)
	c := &threeHosts{network: lab.NewNetwork(t, "edge", "consumer", "third"), secret: lab.NewSecret(t)}
	lost := c.network.Lose(t, 10)
	c.start(t, "garage-stick", device.Path)
	link := c.attachPTY(t, "garage-stick")
	app := lab.OpenTTY(t, link)
	c.consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	before := lost()
	lab.Exchange(t, app, device, 64<<10)
	meanwhile := lost() - before
	t.Logf("%d packets lost meanwhile, %d before", meanwhile, before)
	if meanwhile == 0 {
		t.Error("no packet was lost")
	}
	c.wantCounted(t, link, 64<<10)
}
