package tests

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// backTime is how soon after its start an agent that was cut off without
// warning has to be of use again. Nearly all of it is the work of an emulated
// processor, so the time during which that one was itself without a processor,
// for other programs of this machine, does not count.
const backTime = 5 * time.Second

// TestPowerFailureIn2016 is the thin client with a dead CMOS battery: it boots
// in 2016, every time, with its old identity, address and port, while the rest
// of the mesh has heard from it in a later 2016. The application on another host
// does not notice but for the wait. At last the network is cut and the clock
// goes back while the agent lives.
func TestPowerFailureIn2016(t *testing.T) {
	network, secret := lab.NewNetwork(t, "edge", "consumer"), lab.NewSecret(t)
	machine := vm.Config{
		Name: "edge", Time: time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC), Disk: vm.NewDisk(t), Files: guestFiles(t, secret),
		NICs: []vm.NIC{vm.InPlaceOf(t, network.Host("edge"))}, Sticks: []vm.Stick{{ID: "stick", Serial: "Z1", Port: "1"}},
		Programs: []string{"date"},
	}
	consumer := lab.StartAgent(t, network.Host("consumer"), "consumer", secret, nil)
	settings := lab.Settings{
		"cluster": lab.Settings{"join": []string{network.Host("consumer").Addr.String()}},
		// A machine takes three seconds to boot, and some more where the test
		// is not alone.
		"devices": lab.Settings{"rules": []lab.Settings{{"match": lab.Settings{"serial": "Z1"}, "name": "garage-stick", "hold": "60s"}}},
	}

	v := vm.Start(t, machine)
	edge := startGuestAgent(t, v, "edge", settings)
	waitDeviceState(t, consumer.Client(), "garage-stick", client.DeviceAvailable, 40*time.Second)
	t.Logf("device usable %v after the start of the agent", time.Since(edge.Started).Round(time.Millisecond))
	link := filepath.Join(consumer.Dir, "stick")
	consumer.MustRun("attach", "garage-stick", "--pty", link)
	app := lab.OpenTTY(t, link)
	pts, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	trips, worst := talk(t, app, v.Stick("stick"), time.Second)
	t.Logf("%d round trips, the longest %v", trips, worst.Round(time.Millisecond))

	for failure := 1; failure <= 3; failure++ {
		v.Kill()
		v = vm.Start(t, machine)
		edge = spawnGuestAgent(t, v, "edge", settings)
		starved := v.Starved()
		// The consumer may not have noticed that anything happened, until it
		// counts the gap. It is asked, not the guest, which would be kept busy.
		lab.WaitFor(t, "the session to resume with a gap", 30*time.Second, func() error {
			all, err := consumer.Client().Sessions(t.Context())
			if err == nil && (len(all) != 1 || all[0].Gaps < failure) {
				err = fmt.Errorf("sessions are %+v", all)
			}
			return err
		})
		consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
		talk(t, app, v.Stick("stick"), 0)
		back := time.Since(edge.Started)
		starved = v.Starved() - starved
		t.Logf("failure %d: back %v after the start of the agent, %v of them without a processor", failure, back.Round(time.Millisecond), starved.Round(time.Millisecond))
		if back -= starved; back > backTime {
			t.Errorf("failure %d: back %v after the start of the agent, want %v", failure, back, backTime)
		}
		wantLink(t, link, pts)
		if status, err := edge.Client.Status(t.Context()); err != nil || status.Epoch != uint64(failure)+1 {
			t.Errorf("failure %d: the agent's start is number %d, %v; want %d: the disk was not written", failure, status.Epoch, err, failure+1)
		}
		talk(t, app, v.Stick("stick"), time.Second)
	}
	cutAndStep(t, v, edge, consumer, app, link)
	wantLink(t, link, pts)
	edge.stop(t)
	v.Shutdown()
}

// cutAndStep cuts the machine's network while its agent lives and sets its
// clock back by ten years meanwhile: the session goes on where it was, with
// what was said during the cut.
func cutAndStep(t *testing.T, v *vm.VM, edge *guestAgent, consumer *lab.Agent, app *os.File, link string) {
	t.Helper()
	before := sessionOf(t, edge.Client, "garage-stick").ID
	v.SetLink("eth0", false)
	const there, back = "said to the device during the cut", "said by the device during the cut"
	for to, text := range map[io.Writer]string{app: there, v.Stick("stick"): back} {
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
	}
	took := consumer.WaitAttachment(link, client.AttachmentHolding, 20*time.Second)
	t.Logf("cut noticed after %v", took.Round(time.Millisecond))
	v.MustRun("date", "-u", "-s", "2006-01-01")
	v.SetLink("eth0", true)
	start := time.Now()
	for from, want := range map[lab.End]string{app: back, v.Stick("stick"): there} {
		got := make([]byte, len(want))
		_ = from.SetDeadline(time.Now().Add(20 * time.Second))
		if n, err := io.ReadFull(from, got); err != nil || string(got) != want {
			t.Fatalf("after the cut came %q, %v; want %q", got[:n], err, want)
		}
	}
	t.Logf("resumed %v after the cut", time.Since(start).Round(time.Millisecond))
	talk(t, app, v.Stick("stick"), time.Second)
	if now := sessionOf(t, edge.Client, "garage-stick").ID; now != before {
		t.Errorf("session is %s, it was %s", now, before)
	}
}
