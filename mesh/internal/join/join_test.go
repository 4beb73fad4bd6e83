package join_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/roster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secret = identity.SecretOf(identity.ClusterID{1, 2, 3}, 1, [32]byte{4, 5, 6})

	joinerAddr = netip.MustParseAddrPort("192.0.2.1:40001")
	memberAddr = netip.MustParseAddrPort("[2001:db8::2]:51821")
)

// counter is a random source that gives 1, 2, 3 … so that datagrams are the
// same in every run.
type counter struct{ n uint64 }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		if i%8 == 0 {
			c.n++
		}
		b[i] = byte(c.n >> (8 * (i % 8)))
	}
	return len(b), nil
}

// peer is one node with its machine.
type peer struct {
	*join.Machine
	id     *identity.Identity
	record roster.Signed
	held   map[identity.NodeID]roster.Signed
	admit  func(identity.NodeID) bool

	removed, known func(identity.NodeID) bool
}

// newPeer makes node n as of start; WireGuard key and random bytes follow from
// both.
func newPeer(t testing.TB, secret identity.Secret, n, start byte) *peer {
	t.Helper()
	p := &peer{id: identity.FromSeed([32]byte{n}), held: make(map[identity.NodeID]roster.Signed), admit: func(identity.NodeID) bool { return true }}
	p.removed = func(identity.NodeID) bool { return false }
	p.known = p.removed
	private := wireGuard(t, n, start)
	p.record = p.sign(t, secret.Cluster, private, start, 1)
	p.Machine = join.New(join.Config{
		Secret: secret, Private: private,
		Record: func() roster.Signed { return p.record },
		Held:   func(id identity.NodeID) (roster.Signed, bool) { s, ok := p.held[id]; return s, ok },
		Admit:  func(id identity.NodeID) bool { return p.admit(id) },

		Removed: func(id identity.NodeID) bool { return p.removed(id) },
		Known:   func(id identity.NodeID) bool { return p.known(id) },
		Rand:    &counter{n: uint64(n)<<32 | uint64(start)<<24},
	})
	return p
}

func wireGuard(t testing.TB, n, start byte) identity.WireGuardPrivate {
	t.Helper()
	private, err := identity.WireGuardPrivateFrom([32]byte{8, n, start}) // X25519 ignores bits of byte 0
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func (p *peer) sign(t testing.TB, cluster identity.ClusterID, private identity.WireGuardPrivate, start byte, epoch uint64) roster.Signed {
	t.Helper()
	s, err := roster.Sign(p.id, cluster, roster.Record{
		Name: "node", WireGuard: private.Public(), Start: roster.Start{start}, Epoch: epoch,
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:51821")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *peer) begin(t testing.TB, now time.Duration, to netip.AddrPort) []byte {
	t.Helper()
	datagram, err := p.Begin(now, to)
	if err != nil {
		t.Fatal(err)
	}
	return datagram
}

// answer hands over a datagram that must be answered.
func (p *peer) answer(t testing.TB, now time.Duration, from netip.AddrPort, datagram []byte) []byte {
	t.Helper()
	r := p.Handle(now, from, datagram)
	if r.Reply == nil {
		t.Fatalf("no reply to a datagram of type %d: %v", datagram[0], r.Refused)
	}
	return r.Reply
}

// silent hands over a datagram that must have no effect to be seen.
func (p *peer) silent(t testing.TB, now time.Duration, from netip.AddrPort, datagram []byte) {
	t.Helper()
	if r := p.Handle(now, from, datagram); r.Reply != nil || r.Done != nil || r.Refused != nil {
		t.Fatalf("a datagram had an effect: reply %d bytes, done %v, refused %v", len(r.Reply), r.Done, r.Refused)
	}
}

// handshake runs a whole handshake and returns what both sides learn.
func handshake(t testing.TB, now time.Duration, joiner, member *peer) (atJoiner, atMember *join.Peer) {
	t.Helper()
	second := member.answer(t, now, joinerAddr, joiner.begin(t, now, memberAddr))
	r := joiner.Handle(now, memberAddr, second)
	if r.Done == nil || r.Reply == nil {
		t.Fatalf("the joiner is not done: %v", r.Refused)
	}
	last := member.Handle(now, joinerAddr, r.Reply)
	if last.Done == nil || last.Reply != nil {
		t.Fatalf("the member is not done: %v", last.Refused)
	}
	return r.Done, last.Done
}

func TestHandshake(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	atJoiner, atMember := handshake(t, 0, joiner, member)
	if roster.Compare(atJoiner.Record, member.record) != 0 || roster.Compare(atMember.Record, joiner.record) != 0 {
		t.Error("the records did not come over")
	}
	if atJoiner.SeenAs != joinerAddr || atMember.SeenAs != memberAddr {
		t.Errorf("seen as %s and %s", atJoiner.SeenAs, atMember.SeenAs)
	}
	if atJoiner.Addr != memberAddr || atMember.Addr != joinerAddr {
		t.Errorf("addresses %s and %s", atJoiner.Addr, atMember.Addr)
	}
	if !atJoiner.Initiator || atMember.Initiator {
		t.Error("the sides are mixed up")
	}
	if atJoiner.HeldOfUs != nil || atMember.HeldOfUs != nil {
		t.Error("a record is held though none is")
	}
	if s := joiner.Stats(); s.Begun != 1 || s.Completed != 1 {
		t.Errorf("joiner counts %+v", s)
	}
	if s := member.Stats(); s.Answered != 1 || s.Completed != 1 || s.Junk != 0 {
		t.Errorf("member counts %+v", s)
	}
}

func TestSizes(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	first := joiner.begin(t, 0, memberAddr)
	second := member.answer(t, 0, joinerAddr, first)
	third := joiner.answer(t, 0, memberAddr, second)
	if len(first) != join.FirstLen || len(second) >= len(first) || len(third) >= len(second) {
		t.Errorf("%d, %d, %d bytes: a reply must be shorter than what it answers", len(first), len(second), len(third))
	}
	if first[0] != join.TypeFirst || second[0] != join.TypeSecond || third[0] != join.TypeThird {
		t.Errorf("types %d, %d, %d", first[0], second[0], third[0])
	}
}

func TestMappedAddresses(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:40001")
	second := member.answer(t, 0, mapped, joiner.begin(t, 0, mapped))
	r := joiner.Handle(0, mapped, second)
	if r.Done == nil || r.Done.SeenAs != joinerAddr || r.Done.Addr != joinerAddr {
		t.Errorf("done %+v, want plain IPv4 addresses", r.Done)
	}
}

func TestHeldRecord(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 2), newPeer(t, secret, 2, 1)
	t.Run("another is returned", func(t *testing.T) {
		old := joiner.sign(t, secret.Cluster, wireGuard(t, 1, 1), 1, 900)
		member.held[joiner.id.ID()] = old
		atJoiner, _ := handshake(t, 0, joiner, member)
		if atJoiner.HeldOfUs == nil || roster.Compare(*atJoiner.HeldOfUs, old) != 0 {
			t.Errorf("held %v", atJoiner.HeldOfUs)
		}
	})
	t.Run("the same is not", func(t *testing.T) {
		member.held[joiner.id.ID()] = joiner.record
		if atJoiner, _ := handshake(t, time.Second, joiner, member); atJoiner.HeldOfUs != nil {
			t.Error("the record just sent was returned")
		}
	})
	t.Run("of another node is ignored", func(t *testing.T) {
		member.held[joiner.id.ID()] = member.record
		if atJoiner, _ := handshake(t, 2*time.Second, joiner, member); atJoiner.HeldOfUs != nil {
			t.Error("a record of another node passed as ours")
		}
	})
}

func TestLargestRecords(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	large := func(p *peer, n byte, epoch uint64) roster.Signed {
		r := p.record.Record()
		r.Name, r.Version = string(make63('n')), "v12345678901234567890123"
		r.KubeSpan, r.Epoch, r.Sequence = netip.MustParseAddr("fd00::1"), epoch, roster.MaxCount
		r.Endpoints = nil
		for i := range roster.MaxEndpoints {
			r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(netip.MustParseAddr("2001:db8::9"), uint16(60000+i)))
		}
		s, err := roster.Sign(p.id, secret.Cluster, r)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	joiner.record, member.record = large(joiner, 1, roster.MaxCount), large(member, 2, roster.MaxCount)
	member.held[joiner.id.ID()] = large(joiner, 1, roster.MaxCount-1)
	second := member.answer(t, 0, memberAddr, joiner.begin(t, 0, memberAddr))
	if len(second) > 1036 {
		t.Errorf("message 2 has %d bytes, more than its comment says", len(second))
	}
	if r := joiner.Handle(0, memberAddr, second); r.Done == nil || r.Done.HeldOfUs == nil {
		t.Errorf("not done: %v", r.Refused)
	}
}

func make63(c byte) []byte {
	b := make([]byte, roster.MaxName)
	for i := range b {
		b[i] = c
	}
	return b
}

func TestSimultaneousJoin(t *testing.T) {
	a, b := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	addrA, addrB := joinerAddr, memberAddr
	firstA, firstB := a.begin(t, 0, addrB), b.begin(t, 0, addrA)
	secondB, secondA := b.answer(t, 0, addrA, firstA), a.answer(t, 0, addrB, firstB)
	doneA, doneB := a.Handle(0, addrB, secondB), b.Handle(0, addrA, secondA)
	if doneA.Done == nil || doneB.Done == nil {
		t.Fatal("as joiners, not both are done")
	}
	lastB, lastA := b.Handle(0, addrA, doneA.Reply), a.Handle(0, addrB, doneB.Reply)
	if lastA.Done == nil || lastB.Done == nil || lastA.Done.Initiator || lastB.Done.Initiator {
		t.Fatal("as members, not both are done")
	}
	for _, p := range []*join.Peer{doneA.Done, lastA.Done} {
		if p.Record.Hash() != b.record.Hash() {
			t.Error("a has another record of b")
		}
	}
}

func TestSeveralAddressesAtOnce(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	second := make(map[netip.AddrPort][]byte)
	for port := range uint16(10) {
		to := netip.AddrPortFrom(memberAddr.Addr(), 50000+port)
		second[to] = member.answer(t, 0, joinerAddr, joiner.begin(t, 0, to))
	}
	for to, datagram := range second {
		if r := joiner.Handle(0, to, datagram); r.Done == nil || r.Done.Addr != to {
			t.Errorf("%s: not done", to)
		}
	}
}

func TestBegunIsBounded(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	first := joiner.begin(t, 0, memberAddr)
	second := joiner.begin(t, time.Millisecond, memberAddr)
	for port := range uint16(63) {
		joiner.begin(t, time.Second, netip.AddrPortFrom(memberAddr.Addr(), 1000+port))
	}
	joiner.silent(t, time.Second, memberAddr, member.answer(t, time.Second, joinerAddr, first))
	if joiner.Stats().Stray != 1 {
		t.Error("the oldest of 65 handshakes is still there")
	}
	joiner.answer(t, time.Second, memberAddr, member.answer(t, time.Second, joinerAddr, second))
}

func TestExpire(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	other := netip.MustParseAddrPort("192.0.2.9:1")
	late := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
	joiner.begin(t, 0, other)
	joiner.begin(t, 3*time.Second, other)
	if got := joiner.Expire(join.Lifetime - 1); got != nil {
		t.Errorf("too early: %v", got)
	}
	if got := joiner.Expire(join.Lifetime); len(got) != 2 || !slices.Contains(got, memberAddr) || !slices.Contains(got, other) {
		t.Errorf("silent %v, want %s and %s, where another try waits", got, memberAddr, other)
	}
	joiner.silent(t, join.Lifetime, memberAddr, late)
	if got := joiner.Expire(time.Minute); len(got) != 1 || got[0] != other {
		t.Errorf("silent %v, want %s", got, other)
	}
	joiner.begin(t, time.Minute-time.Second, memberAddr)
	answered := joiner.begin(t, time.Minute, memberAddr)
	joiner.answer(t, time.Minute, memberAddr, member.answer(t, time.Minute, joinerAddr, answered))
	for _, now := range []time.Duration{time.Minute - time.Second + join.Lifetime, time.Hour} {
		if got := joiner.Expire(now); got != nil {
			t.Errorf("an answered address is silent: %v", got)
		}
	}
}

func TestLateMessages(t *testing.T) {
	for _, row := range []struct {
		name        string
		second      time.Duration // when message 2 reaches the joiner
		third       time.Duration // when message 3 reaches the member
		done, ready bool
	}{
		{"just in time", join.Lifetime - 1, join.Lifetime - 1, true, true},
		{"message 2 late", join.Lifetime, join.Lifetime, false, false},
		{"message 3 late", 0, join.Lifetime, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
			second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
			r := joiner.Handle(row.second, memberAddr, second)
			if (r.Done != nil) != row.done {
				t.Fatalf("joiner done: %v", r.Done != nil)
			}
			if r.Reply != nil && (member.Handle(row.third, joinerAddr, r.Reply).Done != nil) != row.ready {
				t.Error("the member disagrees")
			}
		})
	}
}

func TestRekey(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
	private := wireGuard(t, 1, 9)
	joiner.record = joiner.sign(t, secret.Cluster, private, 1, 2)
	if _, err := joiner.Begin(0, memberAddr); err == nil {
		t.Error("began with a record that does not fit the key")
	}
	joiner.Rekey(private)
	joiner.silent(t, 0, memberAddr, second) // it would tell a key that is gone
	_, atMember := handshake(t, time.Second, joiner, member)
	if atMember.Record.Record().WireGuard != private.Public() {
		t.Error("the old key was told")
	}
	// As a member, too.
	back := joiner.answer(t, time.Second, memberAddr, member.begin(t, time.Second, joinerAddr))
	third := member.answer(t, time.Second, joinerAddr, back)
	private = wireGuard(t, 1, 10)
	joiner.record = joiner.sign(t, secret.Cluster, private, 1, 3)
	joiner.Rekey(private)
	joiner.silent(t, time.Second, memberAddr, third)
}

func TestDefaults(t *testing.T) {
	member := newPeer(t, secret, 2, 1)
	id := identity.FromSeed([32]byte{1})
	private, err := identity.NewWireGuardPrivate()
	if err != nil {
		t.Fatal(err)
	}
	record, err := roster.Sign(id, secret.Cluster, roster.Record{Name: "a", WireGuard: private.Public(), Start: roster.Start{1}})
	if err != nil {
		t.Fatal(err)
	}
	joiner := &peer{id: id, record: record, Machine: join.New(join.Config{Secret: secret, Private: private, Record: func() roster.Signed { return record }})}
	handshake(t, 0, joiner, member)
	handshake(t, 0, member, joiner)
}

// withID returns a first message with another handshake id.
func withID(datagram []byte, id uint32) []byte {
	out := append([]byte(nil), datagram...)
	binary.BigEndian.PutUint32(out[1:], id)
	return out
}
