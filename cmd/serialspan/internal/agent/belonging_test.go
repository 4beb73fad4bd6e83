package agent_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// ownSecret gives a node a secret file of its own.
func (h *house) ownSecret() (path string, change func(*configs.Config)) {
	h.t.Helper()
	path = filepath.Join(h.t.TempDir(), "cluster.secret")
	if err := identity.WriteSecretFile(path, h.net.Secret()); err != nil {
		h.t.Fatal(err)
	}
	return path, func(c *configs.Config) { c.Cluster.SecretFile = path }
}

func keyIn(t *testing.T, path string) uint32 {
	t.Helper()
	secret, err := identity.ReadSecretFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return secret.KeyNumber
}

// The secret is rotated while a session carries bytes: none is lost, and every
// member's file has the new secret and, beside it, the old one. Where the file
// cannot be written, status says so and what to do, a restart changes nothing,
// and what was left about is gone when it can.
func TestRotateUnderASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond})
		edgeFile, edgeChange := h.ownSecret()
		lockedFile, lockedChange := h.ownSecret()
		// In the way of the copy of the old secret: works as root too.
		obstacle := filepath.Join(lockedFile+identity.PreviousSuffix, "in the way")
		if err := os.MkdirAll(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		cloud := h.start(&node{name: "cloud"})
		through := []string{cloud.addr.String()}
		h.start(&node{name: "edge", join: through, change: edgeChange})
		locked := h.start(&node{name: "locked", join: through, change: lockedChange})
		h.net.WaitFor(5*time.Second, "the stick", locked.resolves("edge-stick"))

		stream, err := locked.Console(t.Context(), "edge-stick", client.TakeNormal)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		sent, got := make([]byte, 100_000), make([]byte, 100_000)
		rand.Read(sent)
		go func() {
			for chunk := range chunks(sent, 100) { // 10 s
				stream.Write(chunk)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		number, err := cloud.RotateSecret(t.Context(), client.RotateRequest{})
		if err != nil || number != 2 {
			t.Fatalf("rotate: key %d, %v", number, err)
		}
		h.net.WaitFor(5*time.Second, "the rotation", func() bool { return cloud.Status().Key.Rotation.Phase == "done" })
		if r := cloud.Status().Key.Rotation; len(r.Has) != 2 || len(r.Missing) != 0 {
			t.Errorf("rotation: %+v", r)
		}
		if _, err := io.ReadFull(stream, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("bytes were lost or changed, or %v", err)
		}
		for _, s := range locked.Sessions() {
			if s.Resumed > 0 || s.Gaps > 0 {
				t.Errorf("session was resumed %d times with %d gaps", s.Resumed, s.Gaps)
			}
		}
		if keyIn(t, h.secret) != 2 || keyIn(t, edgeFile) != 2 || keyIn(t, edgeFile+identity.PreviousSuffix) != 1 {
			t.Error("the files do not have the new secret and the old one beside it")
		}

		spare := filepath.Join(locked.dir, "cluster.secret")
		told := func() bool {
			return strings.Contains(strings.Join(locked.Status().Problems, "\n"), "copy "+spare+" to where the file comes from")
		}
		if keyIn(t, lockedFile) != 1 || keyIn(t, spare) != 2 || !told() {
			t.Errorf("a secret file that cannot be written is not told of: %q", locked.Status().Problems)
		}
		stream.Close()
		locked.stop()
		locked = h.start(&node{name: "locked", dir: locked.dir, addr: locked.addr, join: through, change: lockedChange})
		if locked.Status().Key.Number != 2 || !told() {
			t.Error("after a restart the old secret is in use, or the file is not told of")
		}
		if err := os.RemoveAll(lockedFile + identity.PreviousSuffix); err != nil {
			t.Fatal(err)
		}
		h.net.WaitFor(time.Minute, "the file to be written", func() bool { return keyIn(t, lockedFile) == 2 && !told() })
		if _, err := os.Stat(spare); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a copy of the secret is left about: %v", err)
		}
	})
}

// A member that was removed loses its session on another's device, and others
// lose theirs on its device, with the reason; what it published is gone.
func TestRemoveEndsSessions(t *testing.T) {
	for _, who := range []string{"consumer", "edge"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, meshtest.Link{Delay: 10 * time.Millisecond})
				var admin, lost identity.NodeID
				rules := func(c *configs.Config) {
					if !admin.IsZero() {
						c.Cluster.Admins = []string{admin.String()}
					}
				}
				cloud := h.start(&node{name: "cloud"})
				through := []string{cloud.addr.String()}
				admin = cloud.Status().ID
				cloud.stop()
				nodes := map[string]*node{
					"edge":     h.start(&node{name: "edge", join: through, change: rules}),
					"consumer": h.start(&node{name: "consumer", join: through, change: rules}),
				}
				lost = nodes[who].Status().ID
				cloud = h.start(&node{name: "cloud", dir: cloud.dir, addr: cloud.addr, change: func(c *configs.Config) {
					rules(c)
					c.Cluster.Nodes = map[string]string{"friend": lost.String()}
				}})
				h.net.WaitFor(5*time.Second, "the stick", nodes["consumer"].resolves("edge-stick"))
				stream, err := nodes["consumer"].Console(t.Context(), "edge-stick", client.TakeNormal)
				if err != nil {
					t.Fatal(err)
				}
				defer stream.Close()
				h.net.WaitFor(5*time.Second, "all", func() bool { return cloud.Status().Members == 3 })

				removal, err := cloud.RemoveNode(t.Context(), "friend")
				if err != nil || removal.ID != lost || removal.Node != who || !removal.Everywhere || !removal.RotateSecret {
					t.Fatalf("removal: %+v, %v", removal, err)
				}
				if text := strings.Join(removal.Notes, "\n"); !strings.Contains(text, "secret rotate") || !strings.Contains(text, "cluster.nodes.friend") {
					t.Errorf("notes: %q", text)
				}
				began := time.Now()
				for {
					if _, err = stream.Read(make([]byte, 100)); err != nil {
						break
					}
				}
				if took := time.Since(began); took > 2*time.Second || !strings.Contains(err.Error(), "node was removed from the cluster") {
					t.Errorf("the session ended after %v with %v", took, err)
				}
				h.net.WaitFor(5*time.Second, "it to be out", func() bool { return cloud.Status().Members == 2 })
				if who == "edge" && (len(cloud.Devices()) > 0 || len(nodes["consumer"].Devices()) > 0) {
					t.Error("what the removed node published is still there")
				}
				shown := 0
				for _, n := range nodes[map[string]string{"edge": "consumer", "consumer": "edge"}[who]].Nodes() {
					if n.ID == lost && n.State == client.NodeRemoved && n.RemovedBy == "cloud" && n.Name == who {
						shown++
					}
				}
				if shown != 1 {
					t.Errorf("shown as removed %d times, want once", shown)
				}
				if text := strings.Join(cloud.Status().Problems, "\n"); !strings.Contains(text, "cluster.nodes.friend: names the removed node") {
					t.Errorf("status does not name the alias: %q", text)
				}
				if text := strings.Join(nodes[who].Status().Problems, "\n"); !strings.Contains(text, "removed from the cluster") {
					time.Sleep(time.Minute)
					if text = strings.Join(nodes[who].Status().Problems, "\n"); !strings.Contains(text, "removed from the cluster") {
						t.Errorf("the removed node does not know: %q", text)
					}
				}
			})
		})
	}
}
