package gossip

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		t.Errorf("%s: have %x, want %s", name, got, want)
	}
}

func TestFramesGolden(t *testing.T) {
	m, err := message{run: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, counter: 0x01020304, name: "dev", body: []byte("hello")}.encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "message.hex", m)
	id := identity.NodeID{0xaa, 15: 0xbb}
	golden(t, "farewell.hex", farewell{id: id, record: hashRecord([]byte("record"))}.encode())
	golden(t, "digest.hex", digest{from: id, sum: [8]byte{1, 7: 8}, users: [8]byte{2, 7: 9}}.encode())
}

func TestFrameLimits(t *testing.T) {
	full, err := message{name: strings.Repeat("n", MaxName), body: make([]byte, MaxMessage)}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseMessage(full); err != nil {
		t.Errorf("largest message: %v", err)
	}
	for name, b := range map[string][]byte{
		"empty":         nil,
		"other type":    {9, 1, 2, 3},
		"short":         full[:messageHeader-1],
		"name cut":      full[:messageHeader+MaxName-1],
		"body too long": append(bytes.Clone(full), 0),
	} {
		if _, err := parseMessage(b); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func FuzzFrame(f *testing.F) {
	m, _ := message{counter: 5, name: "n", body: []byte("body")}.encode()
	f.Add(m)
	f.Add(farewell{}.encode())
	f.Add(digest{}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMessage(b); err == nil {
			if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("message %x came back as %x, %v", b, again, err)
			}
		}
		if f, err := parseFarewell(b); err == nil && !bytes.Equal(f.encode(), b[:farewellSize]) {
			t.Errorf("farewell %x came back otherwise", b)
		}
		if d, err := parseDigest(b); err == nil && !bytes.Equal(d.encode(), b[:digestSize]) {
			t.Errorf("digest %x came back otherwise", b)
		}
	})
}

func knowsNothing([]byte) bool { return false }

// FuzzNotifyMsg feeds frames to a Gossip that does not run.
func FuzzNotifyMsg(f *testing.F) {
	m, _ := message{counter: 5, name: "n", body: []byte("body")}.encode()
	f.Add(m)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &Gossip{cfg: Config{Known: knowsNothing}, members: make(map[identity.NodeID]*member), queued: make(map[string]uint32), wake: make(chan struct{}, 1)}
		g.queue.NumNodes = g.alive
		g.queue.RetransmitMult = retransmit
		(*delegate)(g).NotifyMsg(b)
		(*delegate)(g).MergeRemoteState(b, true)
		if len(g.members) != 0 {
			t.Error("a frame alone made a member")
		}
	})
}

func TestSeenIsBoundedAndRemembers(t *testing.T) {
	var s seen
	now := time.Now()
	name := func(i int) string { return strconv.Itoa(i) }
	for i := range 3 * seenLimit {
		if !s.add(now, name(i), nil) {
			t.Fatalf("frame %d is not new", i)
		}
		if i >= seenLimit-1 && s.add(now, name(i-seenLimit+1), nil) {
			t.Fatalf("frame %d was forgotten after %d", i-seenLimit+1, i)
		}
	}
	if n := len(s.young) + len(s.old); n > 2*seenLimit {
		t.Errorf("%d frames are remembered", n)
	}
	last := name(3*seenLimit - 1)
	if s.add(now.Add(seenFor), last, nil) {
		t.Error("a message was forgotten too early")
	}
	if !s.add(now.Add(2*seenFor), last, nil) {
		t.Error("a message was remembered too long")
	}
}

func TestOlderMessageDoesNotReplaceNewer(t *testing.T) {
	g := &Gossip{cfg: Config{Known: knowsNothing}, members: make(map[identity.NodeID]*member), queued: make(map[string]uint32), wake: make(chan struct{}, 1), floods: make(chan struct{}, 1)}
	g.queue.NumNodes = g.alive
	g.queue.RetransmitMult = repeats
	for _, counter := range []uint32{2, 1} {
		frame, err := message{counter: counter, name: "n", body: []byte{byte(counter)}}.encode()
		if err != nil {
			t.Fatal(err)
		}
		(*delegate)(g).NotifyMsg(frame)
	}
	if len(g.pending.messages) != 2 {
		t.Errorf("%d messages are told, want both", len(g.pending.messages))
	}
	queued := (*delegate)(g).GetBroadcasts(3, 1000)
	if len(queued) != 1 || queued[0][len(queued[0])-1] != 2 {
		t.Errorf("queued %x, want the newer one only", queued)
	}
	if len(g.flooding) != 1 || !bytes.Equal(g.flooding[0].message[1:], queued[0]) {
		t.Errorf("to be flooded: %x, want the newer one only", g.flooding)
	}
}

func TestSelfFarewellOfOthersIsIgnored(t *testing.T) {
	id := identity.NodeID{1}
	g := &Gossip{cfg: Config{Self: id}, members: map[identity.NodeID]*member{id: {state: Alive, meta: []byte("r"), verified: []byte("r")}}}
	g.receiveFarewell(farewell{id: id, record: hashRecord([]byte("r"))})
	if g.members[id].parting || g.queue.NumQueued() != 0 {
		t.Error("another's farewell in our name was taken")
	}
}
