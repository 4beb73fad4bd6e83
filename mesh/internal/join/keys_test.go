package join_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
)

// key returns the join key of a key number of the cluster.
func key(number uint32, use join.Use) join.Key {
	return join.Key{Number: number, PSK: of(number).JoinKey(), Use: use}
}

func of(number uint32) identity.Secret {
	return identity.SecretOf(secret.Cluster, number, [32]byte{byte(number)})
}

// TestOlderSecrets: a member after some rotations, and joiners with the secrets
// of before.
func TestOlderSecrets(t *testing.T) {
	ring := []join.Key{key(5, join.UseCurrent), key(6, join.UseCurrent), key(4, join.UseOld), key(2, join.UseNamed)}
	for _, row := range []struct {
		name   string
		number uint32
		known  bool
		want   error // nil: it joins
		text   string
		stray  bool // no answer
		old    bool
	}{
		{name: "the one in use", number: 5},
		{name: "one that is handed out", number: 6},
		{name: "older, a former member", number: 4, known: true, old: true},
		{name: "older, a newcomer", number: 4, want: join.ErrNewcomer,
			text: "this member's secret is 1 rotation old (key 4, in use is key 5), and lets in former members only; next step: copy the secret file of a member that is up to date"},
		{name: "too old, a former member", number: 2, known: true, want: join.ErrOldSecret,
			text: "this member's secret is 3 rotations old (key 2, in use is key 5); next step: copy the secret file of a member that is up to date"},
		{name: "forgotten", number: 1, known: true, stray: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			joiner, member := newPeer(t, of(row.number), 1, 1), newPeer(t, of(5), 2, 1)
			member.SetKeys(ring)
			member.known = func(id identity.NodeID) bool { return row.known && id == joiner.id.ID() }
			first := joiner.begin(t, 0, memberAddr)
			switch {
			case row.stray:
				member.silent(t, 0, joinerAddr, first)
				if member.Stats().Junk != 1 {
					t.Error("not counted as junk")
				}
			case row.want != nil:
				_, reply := refused(t, member, joinerAddr, first, row.want, join.Here)
				err, _ := refused(t, joiner, memberAddr, reply, row.want, join.There)
				if err.Key != row.number || err.Newest != 5 || !strings.Contains(err.Error(), row.text) {
					t.Errorf("told %q (%d, %d), want %q", err, err.Key, err.Newest, row.text)
				}
			default:
				second := member.answer(t, 0, joinerAddr, first)
				done := joiner.Handle(0, memberAddr, second)
				if done.Done == nil || done.Done.Old {
					t.Fatalf("joiner: %+v, %v", done.Done, done.Refused)
				}
				last := member.Handle(0, joinerAddr, done.Reply)
				if last.Done == nil || last.Done.Old != row.old {
					t.Errorf("member: %+v, want old %v", last.Done, row.old)
				}
			}
		})
	}
}

// TestBeginWith: a joiner whose secret is newer than the member's tries an older
// one, with the same rules.
func TestBeginWith(t *testing.T) {
	for _, known := range []bool{true, false} {
		joiner, member := newPeer(t, of(5), 1, 1), newPeer(t, of(4), 2, 1)
		joiner.SetKeys([]join.Key{key(5, join.UseCurrent), key(4, join.UseOld), key(2, join.UseNamed)})
		joiner.known = func(id identity.NodeID) bool { return known && id == member.id.ID() }
		if n := joiner.Keys(); n != 2 {
			t.Fatalf("%d keys to begin with, want 2", n)
		}
		member.silent(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
		for _, none := range []int{2, 3} {
			if first, err := joiner.BeginWith(0, memberAddr, none); first != nil || err != nil {
				t.Errorf("key %d: %d bytes, %v", none, len(first), err)
			}
		}
		first, err := joiner.BeginWith(0, memberAddr, 1)
		if err != nil {
			t.Fatal(err)
		}
		second := member.answer(t, 0, joinerAddr, first)
		if !known {
			refused(t, joiner, memberAddr, second, join.ErrNewcomer, join.Here)
			continue
		}
		if r := joiner.Handle(0, memberAddr, second); r.Done == nil || !r.Done.Old || !r.Done.Initiator {
			t.Errorf("joiner: %+v, %v", r.Done, r.Refused)
		}
	}
}

// TestRotationUnderWay: a handshake goes on with the key that it began with.
func TestRotationUnderWay(t *testing.T) {
	joiner, member := newPeer(t, of(4), 1, 1), newPeer(t, of(4), 2, 1)
	second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
	for _, p := range []*peer{joiner, member} {
		p.SetKeys([]join.Key{key(5, join.UseCurrent)})
	}
	r := joiner.Handle(0, memberAddr, second)
	if r.Done == nil {
		t.Fatalf("joiner: %v", r.Refused)
	}
	if r = member.Handle(0, joinerAddr, r.Reply); r.Done == nil {
		t.Errorf("member: %v", r.Refused)
	}
}

// TestRemoved: either side refuses a node that was removed, whatever its secret.
func TestRemoved(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	member.removed = func(id identity.NodeID) bool { return id == joiner.id.ID() }
	_, reply := refused(t, member, joinerAddr, joiner.begin(t, 0, memberAddr), join.ErrRemoved, join.Here)
	err, _ := refused(t, joiner, memberAddr, reply, join.ErrRemoved, join.There)
	if !strings.Contains(err.Error(), "removed from the cluster") {
		t.Errorf("told %q", err)
	}
	// Its own knocking does not let it in either.
	second := joiner.answer(t, 0, memberAddr, member.begin(t, 0, joinerAddr))
	if _, reply := refused(t, member, joinerAddr, second, join.ErrRemoved, join.Here); reply != nil {
		t.Error("message 3 was sent")
	}
	if !errors.Is(err, join.ErrRemoved) {
		t.Error(err)
	}
}
