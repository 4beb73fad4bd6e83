package join_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/roster"
)

// refused hands over a datagram that must be refused for a reason.
func refused(t *testing.T, p *peer, from netip.AddrPort, datagram []byte, want error, side join.Side) (*join.RefusedError, []byte) {
	t.Helper()
	before := p.Stats().Refused
	r := p.Handle(0, from, datagram)
	var err *join.RefusedError
	if !errors.As(r.Refused, &err) || !errors.Is(err, want) || err.Side != side || r.Done != nil {
		t.Fatalf("refused %v, done %v; want %v, %s", r.Refused, r.Done != nil, want, side)
	}
	if p.Stats().Refused != before+1 {
		t.Error("not counted")
	}
	return err, r.Reply
}

func TestNotAdmitted(t *testing.T) {
	t.Run("joiner by member", func(t *testing.T) {
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		member.admit = func(id identity.NodeID) bool { return id != joiner.id.ID() }
		err, reply := refused(t, member, joinerAddr, joiner.begin(t, 0, memberAddr), join.ErrNotAdmitted, join.Here)
		if err.Node != joiner.id.ID() || err.Addr != joinerAddr {
			t.Errorf("%+v", err)
		}
		err, last := refused(t, joiner, memberAddr, reply, join.ErrNotAdmitted, join.There)
		if last != nil || err.Addr != memberAddr {
			t.Errorf("%+v", err)
		}
		if got := joiner.Expire(join.Lifetime); got != nil {
			t.Errorf("a refusal is an answer, yet silent: %v", got)
		}
	})
	t.Run("member by joiner", func(t *testing.T) {
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		joiner.admit = func(id identity.NodeID) bool { return false }
		second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
		if _, reply := refused(t, joiner, memberAddr, second, join.ErrNotAdmitted, join.Here); reply != nil {
			t.Error("message 3 was sent")
		}
	})
	t.Run("says nothing of the member", func(t *testing.T) {
		member := newPeer(t, secret, 2, 1)
		member.admit = func(identity.NodeID) bool { return false }
		thief := newPeer(t, secret, 1, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 1, 1), true)
		reply := member.Handle(0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: thief.record.Wire()}))).Reply
		if m := raw.read(reply[9:]); len(m) != 2 || m[1] != uint64(1) || m[5] != uint64(2) {
			t.Errorf("payload %v, want version and refusal only", m)
		}
	})
}

func TestVersionMismatch(t *testing.T) {
	t.Run("newer joiner is told", func(t *testing.T) {
		member := newPeer(t, secret, 2, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 1, 1), true)
		first := raw.first(encode(t, map[uint64]any{1: 2, 2: "of another type", 3: true}))
		err, reply := refused(t, member, joinerAddr, first, join.ErrVersion, join.Here)
		if err.Version != 2 {
			t.Errorf("version %d", err.Version)
		}
		if m := raw.read(reply[9:]); len(m) != 2 || m[1] != uint64(1) || m[5] != uint64(1) {
			t.Errorf("payload %v", m)
		}
	})
	for _, row := range []struct {
		name    string
		payload map[uint64]any
		want    error
		side    join.Side
		version uint64
	}{
		{"newer member refuses", map[uint64]any{1: 7, 5: 1}, join.ErrVersion, join.There, 7},
		{"newer member does not notice", map[uint64]any{1: 7, 2: "of another type"}, join.ErrVersion, join.Here, 7},
		{"no version", map[uint64]any{}, join.ErrVersion, join.Here, 0},
		{"not admitted", map[uint64]any{1: 1, 5: 2}, join.ErrNotAdmitted, join.There, 1},
		{"unknown code", map[uint64]any{1: 1, 5: 99}, join.ErrReason, join.There, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			joiner := newPeer(t, secret, 1, 1)
			raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), false)
			second := raw.second(joiner.begin(t, 0, memberAddr), encode(t, row.payload))
			err, reply := refused(t, joiner, memberAddr, second, row.want, row.side)
			if err.Version != row.version || reply != nil {
				t.Errorf("%+v", err)
			}
		})
	}
}

// TestWrongKey: a record is worth nothing without the WireGuard key in it.
func TestWrongKey(t *testing.T) {
	victim := newPeer(t, secret, 3, 1)
	t.Run("joiner", func(t *testing.T) {
		member := newPeer(t, secret, 2, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 1, 1), true)
		second := member.answer(t, 0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: victim.record.Wire()})))
		third := raw.third(second, encode(t, map[uint64]any{}))
		if _, reply := refused(t, member, joinerAddr, third, join.ErrKey, join.Here); reply != nil {
			t.Error("answered")
		}
		member.silent(t, 0, joinerAddr, third)
	})
	t.Run("member", func(t *testing.T) {
		joiner := newPeer(t, secret, 1, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), false)
		second := raw.second(joiner.begin(t, 0, memberAddr), encode(t, map[uint64]any{1: 1, 2: victim.record.Wire()}))
		if _, reply := refused(t, joiner, memberAddr, second, join.ErrKey, join.Here); reply != nil {
			t.Error("answered")
		}
	})
}

func TestBadRecord(t *testing.T) {
	elsewhere := secret
	elsewhere.Cluster = identity.ClusterID{9}
	foreign := newPeer(t, elsewhere, 2, 1).record.Wire() // signed for another cluster
	sound := newPeer(t, secret, 2, 1).record.Wire()
	for name, payload := range map[string][]byte{
		"of another cluster": encode(t, map[uint64]any{1: 1, 2: foreign}),
		"missing":            encode(t, map[uint64]any{1: 1}),
		"cut short":          encode(t, map[uint64]any{1: 1, 2: sound[:len(sound)-1]}),
		"as text":            encode(t, map[uint64]any{1: 1, 2: "text"}),
		"no map":             {0x01},
		"nothing":            {},
		"bytes after it":     append(encode(t, map[uint64]any{1: 1, 2: sound}), 1),
	} {
		t.Run(name, func(t *testing.T) {
			member := newPeer(t, secret, 3, 1)
			raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), true)
			err := member.Handle(0, joinerAddr, raw.first(payload))
			if err.Reply != nil && !errors.Is(err.Refused, join.ErrVersion) || err.Done != nil || err.Refused == nil {
				t.Errorf("member: reply %v, refused %v", err.Reply != nil, err.Refused)
			}
			joiner := newPeer(t, secret, 1, 1)
			raw = newNoisePeer(t, secret, wireGuard(t, 2, 1), false)
			r := joiner.Handle(0, memberAddr, raw.second(joiner.begin(t, 0, memberAddr), payload))
			if r.Reply != nil || r.Done != nil || r.Refused == nil {
				t.Errorf("joiner: reply %v, refused %v", r.Reply != nil, r.Refused)
			}
		})
	}
	t.Run("message 3 without a map", func(t *testing.T) {
		member := newPeer(t, secret, 3, 1)
		raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), true)
		second := member.answer(t, 0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: sound})))
		refused(t, member, joinerAddr, raw.third(second, nil), join.ErrRecord, join.Here)
	})
}

func TestUnknownPayloadKeys(t *testing.T) {
	member := newPeer(t, secret, 3, 1)
	record := newPeer(t, secret, 2, 1).record.Wire()
	raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), true)
	second := member.answer(t, 0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: record, 77: "later"})))
	third := raw.third(second, encode(t, map[uint64]any{78: 1}))
	if r := member.Handle(0, joinerAddr, third); r.Done == nil {
		t.Errorf("refused %v", r.Refused)
	}
}

func TestOddSeenAs(t *testing.T) {
	for name, row := range map[string]struct {
		give []byte
		want netip.AddrPort
	}{
		"absent":    {nil, netip.AddrPort{}},
		"too short": {make([]byte, 5), netip.AddrPort{}},
		"IPv4":      {[]byte{192, 0, 2, 1, 0x9c, 0x41}, joinerAddr},
		"mapped":    {append(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice(), 0x9c, 0x41), joinerAddr},
	} {
		t.Run(name, func(t *testing.T) {
			joiner := newPeer(t, secret, 1, 1)
			raw := newNoisePeer(t, secret, wireGuard(t, 2, 1), false)
			payload := encode(t, map[uint64]any{1: 1, 2: newPeer(t, secret, 2, 1).record.Wire(), 3: row.give})
			r := joiner.Handle(0, memberAddr, raw.second(joiner.begin(t, 0, memberAddr), payload))
			if r.Done == nil || r.Done.SeenAs != row.want {
				t.Errorf("%+v, %v", r.Done, r.Refused)
			}
		})
	}
}

func TestJoinSelf(t *testing.T) {
	p := newPeer(t, secret, 1, 1)
	first := p.begin(t, 0, memberAddr)
	err, reply := refused(t, p, joinerAddr, first, join.ErrSelf, join.Here)
	if reply != nil || err.Addr != memberAddr {
		t.Errorf("reply %v, address %s; want the address that was tried", reply != nil, err.Addr)
	}
	// Someone may only have reflected it: the handshake goes on.
	member := newPeer(t, secret, 2, 1)
	p.answer(t, 0, memberAddr, member.answer(t, 0, joinerAddr, first))
}

// TestTwin runs one identity on two machines; each learns of it.
func TestTwin(t *testing.T) {
	a, b := newPeer(t, secret, 1, 1), newPeer(t, secret, 1, 2)
	second := b.answer(t, 0, joinerAddr, a.begin(t, 0, memberAddr))
	err, reply := refused(t, a, memberAddr, second, join.ErrTwin, join.Here)
	if reply != nil || roster.Compare(err.Twin, b.record) != 0 {
		t.Errorf("%+v", err)
	}
	raw := newNoisePeer(t, secret, wireGuard(t, 1, 2), true)
	second = a.answer(t, 0, joinerAddr, raw.first(encode(t, map[uint64]any{1: 1, 2: b.record.Wire()})))
	err, _ = refused(t, a, joinerAddr, raw.third(second, encode(t, map[uint64]any{})), join.ErrTwin, join.Here)
	if roster.Compare(err.Twin, b.record) != 0 {
		t.Errorf("%+v", err)
	}
}

// TestOldFirstAfterRestart: a recorded message 1 of our own earlier start does
// not pass as a twin.
func TestOldFirstAfterRestart(t *testing.T) {
	recorded := newPeer(t, secret, 1, 1).begin(t, 0, memberAddr)
	restarted := newPeer(t, secret, 1, 2)
	if r := restarted.Handle(0, joinerAddr, recorded); r.Refused != nil || r.Done != nil {
		t.Errorf("refused %v, done %v", r.Refused, r.Done)
	}
}

func TestRecordThatDoesNotFit(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	first := joiner.begin(t, 0, memberAddr)
	joiner.record = joiner.sign(t, secret.Cluster, wireGuard(t, 1, 9), 1, 2)
	if _, err := joiner.Begin(0, memberAddr); !errors.Is(err, join.ErrOwnRecord) {
		t.Errorf("Begin: %v, want ErrOwnRecord", err)
	}
	member.record = member.sign(t, secret.Cluster, wireGuard(t, 2, 9), 1, 2)
	if _, reply := refused(t, member, joinerAddr, first, join.ErrOwnRecord, join.Here); reply != nil {
		t.Error("answered")
	}
}

func TestRefusedErrorText(t *testing.T) {
	for _, row := range []struct {
		err  join.RefusedError
		want string
	}{
		{join.RefusedError{Addr: memberAddr, Side: join.There, Err: join.ErrNotAdmitted}, "refused by [2001:db8::2]:51821"},
		{join.RefusedError{Addr: joinerAddr, Err: join.ErrKey}, "refuse 192.0.2.1:40001"},
		{join.RefusedError{Addr: joinerAddr, Version: 3, Err: join.ErrVersion}, "(here 1, there 3)"},
		{join.RefusedError{Addr: joinerAddr, Node: identity.NodeID{1}, Err: join.ErrKey}, identity.NodeID{1}.Short()},
	} {
		if got := row.err.Error(); !strings.Contains(got, row.want) || strings.Contains(got, secret.Text()) {
			t.Errorf("%q has no %q", got, row.want)
		}
	}
}
