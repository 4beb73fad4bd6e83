package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/meshtest"
)

// out reports whether nobody of nodes has the removed one among its members.
func out(removed *meshtest.Node, nodes ...*meshtest.Node) func() bool {
	return func() bool {
		for _, n := range nodes {
			if _, known := n.Member(removed); known {
				return false
			}
		}
		return true
	}
}

// An administrator removes a member that has a stream open: it is out at once
// everywhere, its stream ends with the reason, and it stays out over its own
// restarts and those of the others, whatever is replayed.
func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := meshtest.New(t, lan)
		var admin identity.NodeID
		o := meshtest.Options{Protocols: []string{"chat/1"}, Admins: func() []identity.NodeID { return []identity.NodeID{admin} }}
		nodes := start(network, o, "admin", "b", "c", "lost")
		rest, lost := nodes[:3], nodes[3]
		admin = rest[0].Self()
		streams := make(chan net.Conn, 1)
		go func() {
			conn, _, _ := rest[1].Accept(t.Context(), "chat/1")
			streams <- conn
		}()
		conn, err := lost.Dial(t.Context(), rest[1].Self(), "chat/1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("x"))
		defer (<-streams).Close()

		removed, err := rest[0].Remove(lost.Self(), "lost")
		if err != nil || !removed.Honoured {
			t.Fatalf("remove: %+v, %v", removed, err)
		}
		took := network.WaitFor(3*time.Second, "all to part with it", out(lost, rest...))
		t.Logf("out everywhere after %v", took)
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "the peer has removed the other") {
			t.Errorf("its stream ended with %v", err)
		}
		for _, n := range rest {
			if _, err := n.Dial(t.Context(), lost.Self(), "chat/1"); !errors.Is(err, mesh.ErrRemoved) {
				t.Errorf("%s dials it: %v", n.Name, err)
			}
		}
		time.Sleep(5 * time.Minute) // it knocks, gossips and probes all that while
		if !out(lost, rest...)() {
			t.Fatal("it is a member again")
		}
		if !strings.Contains(problems(lost), "removed from the cluster") {
			t.Errorf("it is not told: %q", problems(lost))
		}
		for i := range rest {
			rest[i].Stop()
		}
		for i := range rest {
			rest[i] = rest[i].Restart()
		}
		lost.Stop()
		lost = lost.Restart()
		time.Sleep(5 * time.Minute)
		if !out(lost, rest...)() || !allAlive(rest...)() {
			t.Error("after restarts it is a member again, or others are not")
		}
		if all := rest[2].RemovedNodes(); len(all) != 1 || all[0].ID != lost.Self() || all[0].By != admin || !all[0].Honoured || all[0].Name != "lost" {
			t.Errorf("removed nodes: %+v", all)
		}
	})
}

// A member that was cut off while another was removed learns it from whomever it
// meets, and parts with it, though the two never lost each other.
func TestRemoveReachesTheOtherHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := meshtest.New(t, lan)
		var admin identity.NodeID
		o := meshtest.Options{Admins: func() []identity.NodeID { return []identity.NodeID{admin} }}
		nodes := start(network, o, "admin", "b", "far", "lost")
		admin = nodes[0].Self()
		network.Cut(nodes[:2], nodes[2:])
		time.Sleep(5 * time.Minute)
		if _, err := nodes[0].Remove(nodes[3].Self(), "lost"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if out(nodes[3], nodes[2])() {
			t.Fatal("the other half knows of it")
		}
		nodes[0].Stop() // the others have the statement from it
		network.Heal(nodes[:2], nodes[2:])
		took := network.WaitFor(time.Minute, "the other half to part with it", out(nodes[3], nodes[1:3]...))
		t.Logf("out in the other half %v after the halves met", took)
		network.WaitFor(time.Minute, "the halves to be one", allAlive(nodes[1:3]...))
	})
}

// Whoever is no administrator removes a member for itself alone.
func TestRemoveByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := meshtest.New(t, lan)
		var admins []identity.NodeID
		o := meshtest.Options{Admins: func() []identity.NodeID { return admins }}
		nodes := start(network, o, "a", "b", "c")
		if _, err := nodes[1].Remove(nodes[2].Self(), "c"); err != nil {
			t.Fatal(err)
		}
		network.WaitFor(3*time.Second, "b to part with c", out(nodes[2], nodes[1]))
		time.Sleep(5 * time.Minute)
		if nodes[0].State(nodes[2]) != mesh.Alive || nodes[0].State(nodes[1]) != mesh.Alive || !out(nodes[2], nodes[1])() {
			t.Error("a parted with c, or b did not stay parted")
		}
		if all := nodes[0].RemovedNodes(); len(all) != 1 || all[0].Honoured {
			t.Errorf("a knows of %+v, want a removal that is not honoured", all)
		}
		if _, err := nodes[1].Remove(nodes[1].Self(), ""); !errors.Is(err, mesh.ErrRemoveSelf) {
			t.Errorf("b removes itself: %v", err)
		}
		// Made an administrator later, its word counts.
		admins = []identity.NodeID{nodes[1].Self()}
		nodes[0].Reconsider()
		network.WaitFor(3*time.Second, "a to part with c", out(nodes[2], nodes[0]))
	})
}

// Removed and then rotated: the removed member has an old secret, and so has the
// new node that its owner makes of it. Neither gets the new one.
func TestRemovedGetsNoNewSecret(t *testing.T) {
	for _, admission := range []string{"secret", "allowlist"} {
		t.Run(admission, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := meshtest.New(t, lan)
				var admin identity.NodeID
				var listed map[identity.NodeID]bool
				o := meshtest.Options{
					Admins: func() []identity.NodeID { return []identity.NodeID{admin} },
					Admit:  func(id identity.NodeID) bool { return listed == nil || listed[id] },
				}
				nodes := start(network, o, "admin", "b", "lost")
				admin = nodes[0].Self()
				if admission == "allowlist" {
					listed = map[identity.NodeID]bool{}
					for _, n := range nodes {
						listed[n.Self()] = true
					}
				}
				lost := nodes[2]
				if _, err := nodes[0].Remove(lost.Self(), "lost"); err != nil {
					t.Fatal(err)
				}
				rotate(t, network, nodes[0], mesh.RotateOptions{})
				again := network.Start("lost", meshtest.Options{Join: nodes[:2]})
				time.Sleep(5 * time.Minute)
				if !onKey(2, nodes[:2]...)() || lost.Secret().KeyNumber != 1 || again.Secret().KeyNumber != 1 {
					t.Errorf("key %d at the removed one, %d at its successor", lost.Secret().KeyNumber, again.Secret().KeyNumber)
				}
				if !out(lost, nodes[:2]...)() || !out(again, nodes[:2]...)() {
					t.Error("one of the two is a member")
				}
			})
		})
	}
}

// Streams between members go on while the secret changes.
func TestStreamSurvivesRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := meshtest.New(t, lan)
		nodes := start(network, meshtest.Options{Protocols: []string{"chat/1"}}, "a", "b", "c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			conn, _, err := nodes[1].Accept(ctx, "chat/1")
			if err == nil {
				io.Copy(conn, conn)
				conn.Close()
			}
		}()
		conn, err := nodes[2].Dial(ctx, nodes[1].Self(), "chat/1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		slowest := time.Duration(0)
		for i := range 300 {
			if i == 50 || i == 150 {
				if _, err := nodes[0].Rotate(mesh.RotateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			if _, err := conn.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			back := make([]byte, 1)
			if _, err := io.ReadFull(conn, back); err != nil || back[0] != byte(i) {
				t.Fatalf("byte %d came back as %v, %v", byte(i), back, err)
			}
			slowest = max(slowest, time.Since(began))
		}
		if slowest > 25*time.Millisecond {
			t.Errorf("slowest round trip %v while the secret changed twice", slowest)
		}
		if !onKey(3, nodes...)() {
			t.Error("the secret did not change twice")
		}
	})
}
