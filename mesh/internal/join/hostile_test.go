package join_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/join"
)

func TestWrongSecret(t *testing.T) {
	otherNumber, otherCluster := secret, secret
	otherKey := identity.SecretOf(secret.Cluster, secret.KeyNumber, [32]byte{4, 5, 7})
	otherNumber.KeyNumber++
	otherCluster.Cluster[0] ^= 1
	for _, row := range []struct {
		name   string
		secret identity.Secret
		fits   bool
	}{
		{"the same", secret, true},
		{"another key", otherKey, false},
		{"another cluster", otherCluster, false},
		{"another key number only", otherNumber, true}, // it is no key material
	} {
		t.Run(row.name, func(t *testing.T) {
			joiner, member := newPeer(t, row.secret, 1, 1), newPeer(t, secret, 2, 1)
			first := joiner.begin(t, 0, memberAddr)
			if row.fits {
				member.answer(t, 0, joinerAddr, first)
				return
			}
			for range 3 {
				member.silent(t, 0, joinerAddr, first)
			}
			stats := member.Stats()
			if stats.Junk != 3 || stats.Answered != 0 || len(stats.Sources) != 1 ||
				stats.Sources[0] != (join.SourceJunk{Source: netip.MustParsePrefix("192.0.2.1/32"), Junk: 3}) {
				t.Errorf("counted %+v", stats)
			}
			if silent := joiner.Expire(join.Lifetime); len(silent) != 1 || silent[0] != memberAddr {
				t.Errorf("silent %v", silent)
			}
		})
	}
}

func TestReplayedFirst(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	first := joiner.begin(t, 0, memberAddr)
	member.answer(t, 0, joinerAddr, first)
	for i, now := range []time.Duration{0, time.Second, join.Lifetime, time.Hour, 1000 * time.Hour} {
		member.Expire(now)
		member.silent(t, now, netip.AddrPortFrom(joinerAddr.Addr(), uint16(i+1)), first)
		member.silent(t, now, joinerAddr, withID(first, uint32(i)))
	}
	if s := member.Stats(); s.Replayed != 10 || s.Answered != 1 || s.Junk != 0 {
		t.Errorf("counted %+v", s)
	}
	handshake(t, 1000*time.Hour, joiner, member) // a fresh one is answered
}

func TestLostAndRepeatedThird(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
	lost := joiner.answer(t, 0, memberAddr, second)
	repeat := joiner.Handle(0, memberAddr, second) // message 2 came twice
	if !slices.Equal(repeat.Reply, lost) || repeat.Done != nil {
		t.Fatal("message 3 is not repeated byte for byte, or the peer is told twice")
	}
	joiner.silent(t, 0, joinerAddr, second) // from elsewhere: no reflector
	if r := member.Handle(0, joinerAddr, repeat.Reply); r.Done == nil {
		t.Fatal("not done")
	}
	for range 3 {
		member.silent(t, 0, joinerAddr, lost)
	}
	if s := member.Stats(); s.Repeated != 3 || s.Stray != 0 || s.Junk != 0 || s.Completed != 1 {
		t.Errorf("member counts %+v", s)
	}
	altered := slices.Clone(lost)
	altered[20] ^= 1
	member.silent(t, 0, joinerAddr, altered)
	// All of message 3 lost: the joiner begins again, the member then is done.
	handshake(t, time.Second, joiner, member)
}

// TestStrayInputEndsNothing alters, cuts and forges messages of a handshake
// under way: the genuine one must still be taken afterwards.
func TestStrayInputEndsNothing(t *testing.T) {
	zeroKey := func(d []byte, at int) []byte { // a point of low order: X25519 fails
		out := slices.Clone(d)
		clear(out[at : at+32])
		return out
	}
	flip := func(d []byte, at int) []byte {
		out := slices.Clone(d)
		out[at] ^= 1
		return out
	}
	damage := map[string]func(d []byte, head int) []byte{
		"first key byte":  func(d []byte, head int) []byte { return flip(d, head) },
		"low order key":   zeroKey,
		"sealed key":      func(d []byte, head int) []byte { return flip(d, head+40) },
		"last byte":       func(d []byte, _ int) []byte { return flip(d, len(d)-1) },
		"cut by a byte":   func(d []byte, _ int) []byte { return d[:len(d)-1] },
		"a byte more":     func(d []byte, _ int) []byte { return append(slices.Clone(d), 0) },
		"only the header": func(d []byte, head int) []byte { return d[:head] },
		"only the type":   func(d []byte, _ int) []byte { return d[:1] },
		"another id":      func(d []byte, _ int) []byte { return flip(d, 2) },
	}
	for name, breakIt := range damage {
		t.Run(name, func(t *testing.T) {
			joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
			second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
			for range 5 {
				joiner.silent(t, 0, memberAddr, breakIt(second, 9))
			}
			r := joiner.Handle(0, memberAddr, second)
			if r.Done == nil {
				t.Fatal("the joiner no longer takes message 2")
			}
			for range 5 {
				member.silent(t, 0, joinerAddr, breakIt(r.Reply, 5))
			}
			if last := member.Handle(0, joinerAddr, r.Reply); last.Done == nil || last.Done.SeenAs != memberAddr {
				t.Fatal("the member no longer takes message 3")
			}
		})
	}
	t.Run("given up after many", func(t *testing.T) {
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		second := member.answer(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
		for range 20 {
			joiner.silent(t, 0, memberAddr, flip(second, len(second)-1))
		}
		if s := joiner.Stats(); s.Junk != 8 || s.Stray != 12 {
			t.Errorf("counted %+v, want 8 tries to open", s)
		}
	})
}

func TestJunkIsNotAnswered(t *testing.T) {
	member := newPeer(t, secret, 2, 1)
	waiting := newPeer(t, secret, 1, 1)
	member.answer(t, 0, joinerAddr, waiting.begin(t, 0, memberAddr))
	member.begin(t, 0, joinerAddr)
	random := rand.New(rand.NewPCG(1, 2))
	const packets = 10_000
	lengths := []int{0, 1, 5, 9, 50, 69, 120, 148, 1199, 1200, 1201, 1500}
	for i := range packets {
		datagram := make([]byte, lengths[random.IntN(len(lengths))])
		for j := range datagram {
			datagram[j] = byte(random.Uint32())
		}
		if len(datagram) > 0 && i%10 > 0 {
			datagram[0] = byte(5 + i%3)
		}
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(random.UintN(256)), byte(random.UintN(256)), 1}), 1)
		member.silent(t, time.Duration(i)*10*time.Microsecond, from, datagram)
	}
	s := member.Stats()
	if s.Junk+s.Stray+s.Limited != packets || s.Answered != 1 || s.Completed != 0 || s.Refused != 0 {
		t.Errorf("of %d packets: %+v", packets, s)
	}
	if len(s.Sources) > 1024 {
		t.Errorf("%d sources kept", len(s.Sources))
	}
	if !slices.IsSortedFunc(s.Sources, func(a, b join.SourceJunk) int { return int(b.Junk) - int(a.Junk) }) {
		t.Error("sources are not sorted by junk")
	}
	handshake(t, time.Second, newPeer(t, secret, 3, 1), member)
}

// TestJunkFromOneSource: all of it is dropped, and a genuine joiner behind the
// same address gets through as soon as it stops.
func TestJunkFromOneSource(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
	junk := make([]byte, join.FirstLen)
	junk[0] = join.TypeFirst
	const packets = 10_000
	for i := range uint64(packets) {
		binary.BigEndian.PutUint64(junk[5:], i)
		member.silent(t, 0, joinerAddr, junk)
	}
	s := member.Stats()
	if s.Junk+s.Limited != packets || s.Junk != 400 || s.Sources[0].Junk != s.Junk {
		t.Errorf("counted %+v", s)
	}
	member.silent(t, 0, joinerAddr, joiner.begin(t, 0, memberAddr))
	handshake(t, 10*time.Millisecond, joiner, member)
}

// TestFloodOfGenuine: a holder of the secret cannot make a member answer
// without bound.
func TestFloodOfGenuine(t *testing.T) {
	answered := func(n int, from func(int) netip.AddrPort) int {
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		for i := range n {
			r := member.Handle(0, from(i), joiner.begin(t, 0, memberAddr))
			if r.Reply == nil && (r.Done != nil || r.Refused != nil) {
				t.Fatal("a word about what was dropped")
			}
		}
		s := member.Stats()
		if int(s.Answered+s.Limited) != n || s.Junk != 0 {
			t.Errorf("counted %+v of %d", s, n)
		}
		return int(s.Answered)
	}
	site := netip.MustParseAddr("2001:db8:1:2::").As16()
	for _, row := range []struct {
		name string
		from func(int) netip.AddrPort
		want int
	}{
		{"one address, many ports", func(i int) netip.AddrPort { return netip.AddrPortFrom(joinerAddr.Addr(), uint16(i+1)) }, 24},
		{"one IPv6 /64", func(i int) netip.AddrPort {
			a := site
			a[15] = byte(i)
			return netip.AddrPortFrom(netip.AddrFrom16(a), 1)
		}, 24},
		{"many addresses", func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		}, 56},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := answered(200, row.from); got != row.want {
				t.Errorf("%d answers at once, want %d", got, row.want)
			}
		})
	}
	t.Run("for ten seconds", func(t *testing.T) {
		joiner, member := newPeer(t, secret, 1, 1), newPeer(t, secret, 2, 1)
		for i := range 800 { // 80 a second
			now := time.Duration(i) * 12500 * time.Microsecond
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
			member.Handle(now, from, joiner.begin(t, now, memberAddr))
		}
		if s := member.Stats(); s.Answered < 440 || s.Answered > 40*10+56 {
			t.Errorf("%d answers in ten seconds, want about 40 a second and 56 at once", s.Answered)
		}
	})
}
