package join_test

import (
	"bytes"
	"testing"

	"github.com/serialspan/serialspan/mesh/internal/join"
)

// The Raw targets feed any bytes: nothing but a recorded datagram may have an
// effect. The others seal a payload with the right keys, so that the fuzzer
// gets behind the cryptography.

// FuzzRaw feeds a machine that waits for a message 2 and a message 3.
func FuzzRaw(f *testing.F) {
	joiner, member := newPeer(f, secret, 1, 1), newPeer(f, secret, 2, 1)
	first := joiner.begin(f, 0, memberAddr)
	second := member.answer(f, 0, joinerAddr, first)
	third := joiner.answer(f, 0, memberAddr, second)
	for _, datagram := range [][]byte{first, second, third, {}, {5}, {6}, {7}, {8}} {
		f.Add(datagram)
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		// Both ends draw the same random bytes as above, so the recorded
		// datagrams fit these machines.
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		begun := joiner.begin(t, 0, memberAddr)
		if r := member.Handle(0, joinerAddr, datagram); (r.Reply != nil || r.Done != nil || r.Refused != nil) &&
			!(len(datagram) == join.FirstLen && bytes.Equal(datagram[5:], first[5:])) {
			t.Fatalf("member: reply %v, done %v, refused %v", r.Reply, r.Done, r.Refused)
		}
		answered := newPeer(t, secret, 2, 1)
		reply := answered.answer(t, 0, joinerAddr, begun)
		if r := answered.Handle(0, joinerAddr, datagram); r.Reply != nil || r.Done != nil && !bytes.Equal(datagram, third) {
			t.Fatalf("waiting member: reply %v, done %v", r.Reply, r.Done)
		}
		// Ids are not sealed: the member's only says where message 3 goes.
		if r := joiner.Handle(0, memberAddr, datagram); (r.Reply != nil || r.Done != nil || r.Refused != nil) &&
			!bytes.Equal(datagram[min(9, len(datagram)):], second[9:]) && !bytes.Equal(datagram[min(5, len(datagram)):], first[5:]) {
			t.Fatalf("joiner: reply %v, done %v, refused %v", r.Reply, r.Done, r.Refused)
		}
		if bytes.Equal(datagram[min(9, len(datagram)):], second[9:]) {
			return
		}
		if r := joiner.Handle(0, memberAddr, reply); r.Done == nil {
			t.Fatal("the joiner no longer takes the genuine message 2")
		}
	})
}

// FuzzFirst: any payload in a message 1 that opens.
func FuzzFirst(f *testing.F) {
	record := newPeer(f, secret, 1, 1).record.Wire()
	f.Add(encode(f, map[uint64]any{1: 1, 2: record}))
	f.Add(encode(f, map[uint64]any{1: 2}))
	f.Add(encode(f, map[uint64]any{1: 1, 2: "x", 9: []any{1}}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 1147 {
			return
		}
		member := newPeer(t, secret, 2, 1)
		r := member.Handle(0, joinerAddr, newNoisePeer(t, secret, wireGuard(t, 1, 1), true).first(payload))
		if r.Done != nil || (r.Reply == nil) && (r.Refused == nil) || len(r.Reply) >= join.FirstLen {
			t.Fatalf("reply of %d bytes, done %v, refused %v", len(r.Reply), r.Done, r.Refused)
		}
		if r.Refused == nil && !bytes.Contains(payload, record) {
			t.Fatal("answered without the record")
		}
	})
}

// FuzzSecond: any payload in a message 2 that opens.
func FuzzSecond(f *testing.F) {
	member := newPeer(f, secret, 2, 1)
	record, held := member.record.Wire(), newPeer(f, secret, 1, 2).record.Wire()
	f.Add(encode(f, map[uint64]any{1: 1, 2: record, 3: []byte{1, 2, 3, 4, 5, 6}, 4: held}))
	f.Add(encode(f, map[uint64]any{1: 1, 5: 2}))
	f.Add(encode(f, map[uint64]any{1: 3, 5: 1}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 1000 {
			return
		}
		joiner := newPeer(t, secret, 1, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), false)
		r := joiner.Handle(0, memberAddr, raw.second(joiner.begin(t, 0, memberAddr), payload))
		if (r.Done == nil) == (r.Refused == nil) || (r.Done == nil) != (r.Reply == nil) {
			t.Fatalf("reply %v, done %v, refused %v", r.Reply, r.Done, r.Refused)
		}
		if r.Done != nil && !bytes.Contains(payload, record) {
			t.Fatal("done without the record")
		}
	})
}

// FuzzThird: any payload in a message 3 that opens.
func FuzzThird(f *testing.F) {
	f.Add(encode(f, map[uint64]any{3: []byte{1, 2, 3, 4, 5, 6}}))
	f.Add(encode(f, map[uint64]any{}))
	record := newPeer(f, secret, 1, 1).record.Wire()
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 1100 {
			return
		}
		member := newPeer(t, secret, 2, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 1, 1), true)
		second := member.answer(t, 0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: record})))
		if r := member.Handle(0, joinerAddr, raw.third(second, payload)); r.Reply != nil || (r.Done == nil) == (r.Refused == nil) {
			t.Fatalf("reply %v, done %v, refused %v", r.Reply, r.Done, r.Refused)
		}
	})
}
