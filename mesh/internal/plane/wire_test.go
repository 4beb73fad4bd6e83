package plane_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/plane"
)

var update = flag.Bool("update", false, "write the golden files anew")

// heard is a datagram as it came out of a plane.
type heard struct {
	kind        plane.Kind
	from, other identity.NodeID // other: of a message to pass on, or passed on
	payload     string
}

// listen makes a plane and what returns the datagrams that came out of it since
// it was last called.
func listen(t testing.TB) (*plane.Plane, func() []heard) {
	t.Helper()
	var passed []heard
	note := func(kind plane.Kind) plane.PassFunc {
		return func(from, other identity.NodeID, message []byte) {
			passed = append(passed, heard{kind, from, other, string(message)})
		}
	}
	p := plane.New(plane.Config{Relay: note(plane.Relay), Relayed: note(plane.Relayed)})
	return p, func() []heard {
		all := passed
		passed = nil
		for kind, conn := range map[plane.Kind]*plane.Conn{plane.Gossip: p.Gossip(), plane.QUIC: p.QUIC()} {
			for {
				// The end of what is queued: a packet of our own.
				p.Deliver(identity.NodeID{}, kind, []byte("end"))
				buffer := make([]byte, 2000)
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if id, _ := plane.NodeOf(from); id.IsZero() {
					break
				} else {
					all = append(all, heard{kind: kind, from: id, payload: string(buffer[:n])})
					if _, _, err := conn.ReadFrom(buffer); err != nil { // the end mark
						t.Fatal(err)
					}
				}
			}
		}
		return all
	}
}

// TestGolden has the datagrams of the package comment as they are inside the
// tunnel: one kind byte, then what the kind says.
func TestGolden(t *testing.T) {
	var sent []byte
	sender := plane.New(plane.Config{Send: func(_ identity.NodeID, kind plane.Kind, payload []byte, _ bool) error {
		sent = append([]byte{byte(kind)}, payload...)
		return nil
	}})
	member, third := identity.NodeID{1, 2, 3}, identity.NodeID{15: 0xff}
	write := func(conn *plane.Conn, text string) []byte {
		if _, err := conn.WriteTo([]byte(text), plane.Addr{ID: member}); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(sent)
	}
	rows := []struct {
		name     string
		datagram []byte
		want     heard
	}{
		{"gossip", write(sender.Gossip(), "memberlist"), heard{kind: plane.Gossip, from: member, payload: "memberlist"}},
		{"quic", write(sender.QUIC(), "quic packet"), heard{kind: plane.QUIC, from: member, payload: "quic packet"}},
		{"relay", append(append([]byte{3}, third[:]...), "to third"...), heard{plane.Relay, member, third, "to third"}},
		{"relayed", append(append([]byte{4}, third[:]...), "of third"...), heard{plane.Relayed, member, third, "of third"}},
	}
	var text strings.Builder
	for _, row := range rows {
		text.WriteString(hex.EncodeToString(row.datagram) + "\n")
	}
	const file = "testdata/datagrams.hex"
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(golden) {
		t.Errorf("datagrams differ from %s:\n%s", file, text.String())
	}
	receiver, out := listen(t)
	for i, line := range strings.Fields(string(golden)) {
		datagram, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		receiver.Deliver(member, plane.Kind(datagram[0]), datagram[1:])
		if got := out(); len(got) != 1 || got[0] != rows[i].want {
			t.Errorf("%s: %v came out, want %v", rows[i].name, got, rows[i].want)
		}
	}
}

// FuzzDeliver: whatever a member sends comes out whole, once, at its kind, or is
// counted.
func FuzzDeliver(f *testing.F) {
	f.Add(byte(plane.Gossip), []byte("x"))
	f.Add(byte(plane.QUIC), make([]byte, 1401))
	f.Add(byte(plane.Relay), make([]byte, identity.NodeIDLen))
	f.Add(byte(plane.Relayed), make([]byte, identity.NodeIDLen+1))
	f.Add(byte(5), []byte{})
	member := identity.NodeID{7}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		p, out := listen(t)
		p.Deliver(member, plane.Kind(kind), payload)
		slow, unknown := p.Dropped()
		got := out()
		if slow+unknown+uint64(len(got)) != 1 {
			t.Fatalf("%d came out, %d + %d were counted", len(got), slow, unknown)
		}
		if len(got) == 0 {
			return
		}
		whole := got[0].payload
		if k := got[0].kind; k == plane.Relay || k == plane.Relayed {
			whole = string(got[0].other[:]) + whole
		}
		if got[0].kind != plane.Kind(kind) || got[0].from != member || whole != string(payload) {
			t.Errorf("%v came out of kind %d %x", got[0], kind, payload)
		}
	})
}
