package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// belongingHosts are agents with a secret file and a state directory each that
// outlive them.
type belongingHosts struct {
	t       *testing.T
	network *lab.Network
	dir     string
	admins  []string
}

// start starts the agent of a host, again with what it had before.
func (b *belongingHosts) start(name, secret string, more lab.Settings) *lab.Agent {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	text, err := os.ReadFile(secret)
	if _, statErr := os.Stat(b.secret(name)); errors.Is(statErr, os.ErrNotExist) && err == nil {
		err = os.WriteFile(b.secret(name), text, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	settings := lab.Settings{
		"node":    lab.Settings{"name": name, "state_dir": filepath.Join(dir, "state")},
		"cluster": lab.Settings{"secret_file": b.secret(name), "admins": b.admins},
	}
	if name != "third" {
		settings["cluster"].(lab.Settings)["join"] = []string{b.network.Host("third").Addr.String()}
	}
	for key, value := range more {
		settings[key] = value
	}
	return lab.StartAgent(b.t, b.network.Host(name), name, b.secret(name), settings)
}

func (b *belongingHosts) secret(name string) string {
	return filepath.Join(b.dir, name, "cluster.secret")
}

// TestRotateAndRemove rotates the secret of a cluster by command while bytes
// flow, has a member that was away come back, and then removes one.
func TestRotateAndRemove(t *testing.T) {
	b := &belongingHosts{t: t, network: lab.NewNetwork(t, "third", "edge", "consumer", "shed", "thief"), dir: t.TempDir()}
	secret, device := lab.NewSecret(t), lab.NewTTY(t)
	third := b.start("third", secret, nil)
	status, err := third.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	third.Stop()
	b.admins = []string{status.ID.String()}
	third = b.start("third", secret, nil)
	edge := b.start("edge", secret, lab.Settings{"devices": lab.Device("garage-stick", device.Path)})
	consumer := b.start("consumer", secret, nil)
	shed := b.start("shed", secret, nil)
	consumer.WaitDevice("garage-stick", 15*time.Second)
	waitMembers(t, third, 4)
	shed.Stop()
	waitMembers(t, third, 3)

	link := filepath.Join(consumer.Dir, "stick")
	consumer.MustRun("attach", "garage-stick", "--pty", link)
	app := lab.OpenTTY(t, link)
	consumer.WaitAttachment(link, client.AttachmentConnected, 10*time.Second)
	rotated := make(chan string, 1)
	go func() {
		out, err := third.Run("secret", "rotate")
		if err != nil {
			out += err.Error()
		}
		rotated <- out
	}()
	var out string
	for out == "" {
		lab.Exchange(t, app, device, 64<<10)
		select {
		case out = <-rotated:
		default:
		}
	}
	for _, line := range []string{"key 2 is handed out", "edge has it", "consumer has it", "shed does not have it: away", "key 2 is in use on 3 members"} {
		if !strings.Contains(out, line) {
			t.Errorf("secret rotate does not say %q:\n%s", line, out)
		}
	}
	lab.Exchange(t, app, device, 64<<10)
	for _, s := range sessionsOf(t, consumer) {
		if s.Resumed > 0 || s.Gaps > 0 {
			t.Errorf("session was resumed %d times, %d gaps, while the secret was rotated", s.Resumed, s.Gaps)
		}
	}
	for _, name := range []string{"third", "edge", "consumer"} {
		wantKey(t, b.secret(name), 2)
		wantKey(t, b.secret(name)+identity.PreviousSuffix, 1)
	}
	if _, err := edge.Run("secret", "rotate"); err == nil || !strings.Contains(err.Error(), "not in cluster.admins") {
		t.Errorf("a node that is no administrator rotates: %v", err)
	}

	thief := b.start("thief", secret, nil)
	waitProblem(t, thief, "this member's secret is 1 rotation old")
	shed = b.start("shed", secret, nil)
	waitMembers(t, third, 4)
	lab.WaitFor(t, "the one that was away to have the new secret", 20*time.Second, func() error {
		have, err := identity.ReadSecretFile(b.secret("shed"))
		if err == nil && have.KeyNumber != 2 {
			err = fmt.Errorf("it has key %d", have.KeyNumber)
		}
		return err
	})

	var removal client.RemovalAnswer
	if err := json.Unmarshal([]byte(third.MustRun("nodes", "remove", "consumer", "--json")), &removal); err != nil {
		t.Fatal(err)
	}
	if removal.Node != "consumer" || !removal.Everywhere || !removal.RotateSecret || !strings.Contains(strings.Join(removal.Notes, "\n"), "serialspan secret rotate") {
		t.Errorf("removal: %+v", removal)
	}
	lab.WaitFor(t, "the attachment to end with the reason", 10*time.Second, func() error {
		all, err := consumer.Client().Attachments(t.Context())
		if err == nil && (len(all) != 1 || !strings.Contains(all[0].Error, "node was removed from the cluster")) {
			err = fmt.Errorf("attachments: %+v", all)
		}
		return err
	})
	waitMembers(t, third, 3)
	waitMembers(t, edge, 3)
	waitMembers(t, shed, 3)
	waitProblem(t, consumer, "removed from the cluster")
	if out := shed.MustRun("nodes"); !strings.Contains(out, "removed") {
		t.Errorf("nodes does not show the removed one:\n%s", out)
	}
	if out := third.MustRun("secret", "rotate", "--drop-old"); !strings.Contains(out, "key 3 is in use on 3 members, keys from 3 on") {
		t.Errorf("secret rotate --drop-old says:\n%s", out)
	}
	if out := third.MustRun("status"); !strings.Contains(out, "3 in use") {
		t.Errorf("status does not show the key:\n%s", out)
	}
	wantKey(t, b.secret("consumer"), 2)
	wantKey(t, b.secret("shed"), 3)
}

func sessionsOf(t *testing.T, a *lab.Agent) []client.Session {
	t.Helper()
	all, err := a.Client().Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantKey(t *testing.T, path string, number uint32) {
	t.Helper()
	have, err := identity.ReadSecretFile(path)
	if err != nil || have.KeyNumber != number {
		t.Errorf("%s has key %d (%v), want %d", path, have.KeyNumber, err, number)
	}
}

func waitMembers(t *testing.T, a *lab.Agent, members int) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("%s to see %d members", a.Name, members), 20*time.Second, func() error {
		status, err := a.Client().Status(t.Context())
		if err == nil && status.Members != members {
			err = fmt.Errorf("it sees %d", status.Members)
		}
		return err
	})
}

func waitProblem(t *testing.T, a *lab.Agent, text string) {
	t.Helper()
	lab.WaitFor(t, fmt.Sprintf("status on %s to say %q", a.Name, text), time.Minute, func() error {
		status, err := a.Client().Status(t.Context())
		if all := strings.Join(status.Problems, "\n"); err == nil && !strings.Contains(all, text) {
			err = fmt.Errorf("it says %q", all)
		}
		return err
	})
}
