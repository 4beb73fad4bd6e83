package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// guestAgent is an agent in a virtual machine.
type guestAgent struct {
	*vm.Process
	// Client is a client of it, through the machine's control port.
	Client *client.Client
	// Started is when it was started.
	Started time.Time

	name string
}

const (
	guestConfig = "/etc/serialspan/serialspan.yaml"
	guestSecret = "/etc/serialspan/cluster.secret"
	guestSocket = "/run/serialspan.sock"
)

// guestFiles are the files that startGuestAgent wants in vm.Config.
func guestFiles(t *testing.T, secretFile string) map[string]string {
	t.Helper()
	return map[string]string{"/bin/serialspan": lab.Program(t), guestSecret: secretFile}
}

// portTest builds the test of package port, whose TestReal… run on the guest's
// drivers, and returns it as a file for vm.Config.
func portTest(t *testing.T) map[string]string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "port.test")
	build := exec.Command("go", "test", "-c", "-o", program, "../bridge/internal/port")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the guest has no libraries
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test of package port: %v\n%s", err, out)
	}
	return map[string]string{"/bin/port.test": program}
}

// startConsumer starts an agent where the test runs, and returns it with the
// cluster settings by which guests on vm.UserNet join it.
func startConsumer(t *testing.T, secretFile string) (*lab.Agent, lab.Settings) {
	t.Helper()
	consumer := lab.StartAgent(t, nil, "consumer", secretFile, lab.Settings{"mesh": lab.Settings{"listen": "127.0.0.1:0"}})
	status, err := consumer.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(status.Listen)
	if err != nil {
		t.Fatal(err)
	}
	return consumer, lab.Settings{"join": []string{"10.0.2.2:" + port}}
}

// startGuestAgent starts an agent in the machine and returns when its control
// socket answers. Its state is on the machine's disk; more is as for
// lab.StartAgent. When the test fails, its log is printed.
func startGuestAgent(t *testing.T, v *vm.VM, name string, more lab.Settings) *guestAgent {
	t.Helper()
	a := spawnGuestAgent(t, v, name, more)
	lab.WaitFor(t, "the control socket of "+name, 20*time.Second, func() error {
		if !a.Running() {
			_, err := a.Wait()
			t.Fatalf("agent %s has ended: %v", name, err)
		}
		_, err := a.Client.Status(t.Context())
		return err
	})
	return a
}

// spawnGuestAgent is startGuestAgent without the wait.
func spawnGuestAgent(t *testing.T, v *vm.VM, name string, more lab.Settings) *guestAgent {
	t.Helper()
	config := agentConfig(t, name, lab.Settings{
		"node":    lab.Settings{"name": name, "state_dir": vm.DiskDir + "/state"},
		"cluster": lab.Settings{"secret_file": guestSecret},
		"control": lab.Settings{"socket": guestSocket},
	}, more)
	if err := v.WriteFile(guestConfig, config, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &guestAgent{
		name: name, Client: client.New(client.Config{Socket: v.Forward(guestSocket)}), Started: time.Now(),
		Process: v.Spawn("/bin/serialspan", "agent", "--config", guestConfig),
	}
	t.Cleanup(func() {
		if t.Failed() {
			_, log := a.Output()
			t.Logf("log of agent %s:\n%s", name, log[max(0, len(log)-16<<10):])
		}
	})
	return a
}

// stop ends the agent with SIGTERM.
func (a *guestAgent) stop(t *testing.T) {
	t.Helper()
	if err := a.Signal(unix.SIGTERM); err != nil {
		t.Fatalf("stop agent %s: %v", a.name, err)
	}
	if _, err := a.Wait(); err != nil {
		t.Errorf("agent %s: %v", a.name, err)
	}
}

// agentConfig returns a configuration file: the keys of each of the settings
// are added to those before them, and replace them.
func agentConfig(t *testing.T, name string, settings ...lab.Settings) []byte {
	t.Helper()
	all := lab.Settings{"devices": lab.Settings{"publish": "listed"}, "log": lab.Settings{"level": "debug"}}
	for _, s := range settings {
		for key, value := range s {
			old, _ := all[key].(lab.Settings)
			if added, ok := value.(lab.Settings); ok {
				both := lab.Settings{}
				maps.Copy(both, old)
				maps.Copy(both, added)
				value = both
			}
			all[key] = value
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatalf("write configuration of %s: %v", name, err)
	}
	return text
}

// waitDeviceState waits until the agent shows the device in the state.
func waitDeviceState(t *testing.T, c *client.Client, device string, state client.DeviceState, deadline time.Duration) time.Duration {
	t.Helper()
	return lab.WaitFor(t, fmt.Sprintf("device %s to be %s", device, state), deadline, func() error {
		d, err := deviceOf(t, c, device)
		if err == nil && d.State != state {
			err = fmt.Errorf("it is %s (%s)", d.State, d.Detail)
		}
		return err
	})
}

func deviceOf(t *testing.T, c *client.Client, name string) (client.Device, error) {
	all, err := c.Devices(t.Context())
	if err != nil {
		return client.Device{}, err
	}
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
	}
	return client.Device{}, fmt.Errorf("no such device among %d", len(all))
}

// tripTime bounds one round trip of talk; a path that changes or an agent in an
// emulated machine may take a second.
const tripTime = 10 * time.Second

// talk has the application and the device exchange 16 bytes each way, one after
// the other, every 20 ms for the time given; once at least. It returns how many
// round trips there were and the longest. Other bytes than those fail the test.
func talk(t *testing.T, app, device lab.End, during time.Duration) (trips int, worst time.Duration) {
	t.Helper()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for began := time.Now(); trips == 0 || time.Since(began) < during; <-pace.C {
		trips++
		start := time.Now()
		for _, end := range []lab.End{app, device} {
			if err := end.SetDeadline(start.Add(tripTime)); err != nil {
				t.Fatalf("set deadline: %v", err)
			}
		}
		for _, way := range []struct {
			name     string
			from, to lab.End
		}{{"to the device", app, device}, {"to the application", device, app}} {
			if err := pass(way.from, way.to, fmt.Sprintf("%08d%08x", trips, trips*7919)); err != nil {
				t.Fatalf("round trip %d, %v after the first, %s: %v", trips, time.Since(began).Round(time.Millisecond), way.name, err)
			}
		}
		worst = max(worst, time.Since(start))
	}
	return trips, worst
}

func pass(from, to lab.End, text string) error {
	if _, err := io.WriteString(from, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(to, got); err != nil {
		return fmt.Errorf("after %q of %q: %w", got[:n], text, err)
	}
	if string(got) != text {
		return fmt.Errorf("%q came, %q was sent", got, text)
	}
	return nil
}

// wantLink fails the test unless the link leads where it did: the PTY is the
// one that the application opened.
func wantLink(t *testing.T, link, was string) {
	t.Helper()
	if now, err := os.Readlink(link); err != nil || now != was {
		t.Errorf("%s leads to %q, %v; it was %q: the PTY is another", link, now, err, was)
	}
}

// sessionOf returns the only session on the device that the agent knows of.
func sessionOf(t *testing.T, c *client.Client, device string) client.Session {
	t.Helper()
	all, err := c.Sessions(t.Context())
	if err == nil && (len(all) != 1 || all[0].Device != device) {
		err = errors.New("want one on " + device)
	}
	if err != nil {
		t.Fatalf("sessions are %+v: %v", all, err)
	}
	return all[0]
}
