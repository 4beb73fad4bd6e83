package tests

import (
	"errors"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// Agents with one secret on one link find each other with no address to join;
// one with another secret stays alone.
func TestLAN(t *testing.T) {
	network := lab.NewLink(t, "edge", "server", "neighbour")
	device, secret := lab.NewTTY(t), lab.NewSecret(t)
	lan := lab.Settings{"lan": true}
	lab.StartAgent(t, network.Host("edge"), "edge", secret, lab.Settings{"mesh": lan, "devices": lab.Device("garage-stick", device.Path)})
	neighbour := lab.StartAgent(t, network.Host("neighbour"), "neighbour", lab.NewSecret(t), lab.Settings{"mesh": lan})
	start := time.Now()
	server := lab.StartAgent(t, network.Host("server"), "server", secret, lab.Settings{"mesh": lan})
	server.WaitDevice("garage-stick", 20*time.Second)
	t.Logf("found without an address in %v", time.Since(start))
	lab.WaitFor(t, "the server to see two members", 5*time.Second, func() error {
		status, err := server.Client().Status(t.Context())
		if err == nil && status.Members != 2 {
			err = errors.New("other number of members")
		}
		return err
	})
	if status, err := neighbour.Client().Status(t.Context()); err != nil || status.Members != 1 {
		t.Errorf("the neighbour sees %d members, %v; want itself", status.Members, err)
	}
}
