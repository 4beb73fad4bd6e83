package tests

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// TestNATForgets has a router forget all flows, as one that reboots does, sooner
// than anything keeps them open (a probe every 25 s), and somebody outside who
// wants the member behind it at that moment. What opens it again is whatever that
// member sends next: gossip asks somebody every 5 s. Who hears nothing back on a
// path doubts it after 10 s.
func TestNATForgets(t *testing.T) {
	for name, nat := range map[string]lab.NAT{"cone": lab.Cone, "symmetric": lab.Symmetric} {
		t.Run(name, func(t *testing.T) {
			s := newSites(t, nat)
			near := lab.NewTTY(t)
			go echo(near)
			s.publish(t, "near-stick", near)
			for range 2 {
				for _, c := range []struct {
					from   *lab.Agent
					to     string // whose router has forgotten
					device string
				}{{s.consumer, "edge", "far-stick"}, {s.edge, "consumer", "near-stick"}} {
					s.forget(t, c.to)
					start := time.Now()
					stream := openRaw(t, c.from, c.device)
					one(t, stream)
					first := time.Since(start)
					t.Logf("the router of %s forgot everybody: first echo of %s after %v, %s",
						c.to, c.device, first.Round(time.Millisecond), s.path(t))
					if first > 20*time.Second {
						t.Errorf("first echo of %s after %v", c.device, first)
					}
					if err := stream.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// publish has the consumer publish a device too.
func (s *sites) publish(t *testing.T, name string, device *lab.TTY) {
	t.Helper()
	s.consumer.Stop()
	s.consumer = lab.StartAgent(t, s.hosts["consumer"], "consumer", s.secret, lab.Settings{
		"cluster": s.join, "devices": lab.Device(name, device.Path),
	})
	s.consumer.WaitDevice("far-stick", 20*time.Second)
	s.edge.WaitDevice(name, 20*time.Second)
}

// forget returns when a site's router knows no flow to any other member. From then
// on it forgets flows after 30 s without a packet.
func (s *sites) forget(t *testing.T, site string) {
	t.Helper()
	others := []netip.Addr{s.net.Host("cloud").Addr, s.net.Host("spare").Addr}
	for name, h := range s.hosts {
		if name != site {
			others = append(others, h.Outside)
		}
	}
	router := s.hosts[site]
	router.ForgetUDP(t, time.Second)
	lab.WaitFor(t, "the router of "+site+" to forget", 2*time.Minute, func() error {
		for _, to := range others {
			if router.Remembers(t, to) {
				return fmt.Errorf("it remembers a flow to %v", to)
			}
		}
		return nil
	})
	router.ForgetUDP(t, 30*time.Second)
}

// one sends a line and waits for it to come back.
func one(t *testing.T, stream io.ReadWriter) {
	t.Helper()
	const line = "one line"
	if _, err := io.WriteString(stream, line); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(line))
	if _, err := io.ReadFull(stream, back); err != nil || string(back) != line {
		t.Fatalf("sent %q, came back %q, %v", line, back, err)
	}
}

// TestNarrowLinks has links too narrow for a relayed packet: one of 1280 bytes,
// as KubeSpan makes them, and an uplink of 1420. The kernel cuts what does not
// fit, on the host and behind it.
func TestNarrowLinks(t *testing.T) {
	for name, nat := range map[string]lab.NAT{"direct": lab.Cone, "relayed": lab.Symmetric} {
		t.Run(name, func(t *testing.T) {
			s := newSites(t, nat)
			s.net.Narrow(t, "edge", 0, 1420)
			s.net.Narrow(t, "consumer", 1280, 0)
			stream := s.open(t)
			one(t, stream)
			start := time.Now()
			const size = 512 << 10
			sent := make(chan error, 1)
			block := make([]byte, size)
			for i := range block {
				block[i] = byte(i * 7)
			}
			go func() {
				_, err := stream.Write(block)
				sent <- err
			}()
			back := make([]byte, size)
			if _, err := io.ReadFull(stream, back); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if string(back) != string(block) {
				t.Error("what came back is not what was sent")
			}
			took := time.Since(start)
			t.Logf("%d KiB there and back in %v, %s", size>>10, took.Round(time.Millisecond), s.path(t))
			if took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestRebootBehindNAT has a node behind a router lose its power and come back
// with an ever older clock, on its old UDP port, three times.
func TestRebootBehindNAT(t *testing.T) {
	for name, nat := range map[string]lab.NAT{"cone": lab.Cone, "symmetric": lab.Symmetric} {
		t.Run(name, func(t *testing.T) {
			device := lab.NewTTY(t)
			go echo(device)
			network := lab.NewNetwork(t, "cloud")
			edgeHost, consumerHost := network.AddSite(t, "edge", nat), network.AddSite(t, "consumer", nat)
			secret := lab.NewSecret(t)
			lab.StartAgent(t, network.Host("cloud"), "cloud", secret, nil)
			join := lab.Settings{"join": []string{network.Host("cloud").Addr.String()}}
			consumer := lab.StartAgent(t, consumerHost, "consumer", secret, lab.Settings{"cluster": join})
			edge := startClocked(t, edgeHost, "edge", secret, -year, lab.Settings{
				"cluster": join, "mesh": lab.Settings{"listen": ":51821", "lan": false}, "devices": lab.Device("far-stick", device.Path),
			})
			consumer.WaitDevice("far-stick", 20*time.Second)
			stream := openRaw(t, consumer, "far-stick")
			one(t, stream)
			for i := range 3 {
				if err := stream.Close(); err != nil {
					t.Error(err)
				}
				edge.kill(t)
				start := time.Now()
				edge.start(t, time.Duration(-10-i)*year)
				// What the consumer opens now is what was killed, or waits for it.
				stream = openRaw(t, consumer, "far-stick")
				one(t, stream)
				took := time.Since(start)
				t.Logf("clock %d years back: echo %v after the start", 10+i, took.Round(time.Millisecond))
				if took > 5*time.Second {
					t.Errorf("back after %v", took)
				}
				edge.ready(t)
			}
		})
	}
}
