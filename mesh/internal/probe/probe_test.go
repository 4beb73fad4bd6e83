package probe_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/probe"
)

func key(t testing.TB, b byte) identity.WireGuardPrivate {
	t.Helper()
	k, err := identity.WireGuardPrivateFrom([32]byte(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pairs(t testing.TB) (a, b *probe.Pair) {
	t.Helper()
	ka, kb := key(t, 1), key(t, 2)
	a, err := probe.NewPair(ka, kb.Public())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = probe.NewPair(kb, ka.Public()); err != nil {
		t.Fatal(err)
	}
	return a, b
}

var samples = []probe.Probe{
	{Kind: probe.Request, Token: 1},
	{Kind: probe.Request, Token: 1<<64 - 1, Initiate: true},
	{Kind: probe.Answer, Token: 7, Seen: netip.MustParseAddrPort("192.0.2.1:51821")},
	{Kind: probe.Answer, Token: 7, Seen: netip.MustParseAddrPort("[2001:db8::1]:65535"), Wall: 1451606400e9},
	{Kind: probe.Answer, Token: 8, Wall: -1},
	{Kind: probe.Request, Token: 9, Initiate: true, Whole: true},
}

func TestRoundTripAndGolden(t *testing.T) {
	a, b := pairs(t)
	var lines []string
	for _, want := range samples {
		datagram := a.Seal(want)
		lines = append(lines, hex.EncodeToString(datagram))
		if got, err := b.Open(datagram); err != nil || got != want {
			t.Errorf("opened %+v, %v; want %+v", got, err, want)
		}
		if _, err := b.Open(datagram); !errors.Is(err, probe.ErrReplayed) {
			t.Errorf("second time: %v; want ErrReplayed", err)
		}
	}
	golden, err := os.ReadFile("testdata/probes.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines, "\n") + "\n"; got != string(golden) {
		t.Errorf("wire format changed:\n%swant:\n%s", got, golden)
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	a, b := pairs(t)
	datagram := a.Seal(samples[2])
	for i := range len(datagram) * 8 {
		bad := bytes.Clone(datagram)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := b.Open(bad); err == nil {
			t.Fatalf("opened with bit %d flipped", i)
		}
	}
	if _, err := a.Open(datagram); err == nil {
		t.Error("a probe opened at its own sender")
	}
	if _, err := b.Open(datagram); err != nil {
		t.Errorf("the unharmed datagram after all that: %v", err)
	}
}

func TestOutOfOrder(t *testing.T) {
	a, b := pairs(t)
	var sent [][]byte
	for range 200 {
		sent = append(sent, a.Seal(samples[0]))
	}
	for _, row := range []struct {
		index int
		want  error
	}{{0, nil}, {2, nil}, {1, nil}, {1, probe.ErrReplayed}, {70, nil}, {7, nil}, {6, probe.ErrReplayed}, {7, probe.ErrReplayed}, {199, nil}, {70, probe.ErrReplayed}} {
		if _, err := b.Open(sent[row.index]); !errors.Is(err, row.want) {
			t.Errorf("probe %d: %v; want %v", row.index, err, row.want)
		}
	}
}

func TestLowOrderKeyIsRefused(t *testing.T) {
	if _, err := probe.NewPair(key(t, 1), identity.WireGuardKey{}); err == nil {
		t.Error("the all-zero key made a pair")
	}
}

func FuzzOpen(f *testing.F) {
	a, _ := pairs(f)
	for _, s := range samples {
		f.Add(a.Seal(s))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		a, b := pairs(t)
		pr, err := b.Open(datagram)
		if err != nil {
			return
		}
		// Only what the other side seals opens: it re-seals to the same bytes.
		var again []byte
		for range len(samples) {
			if again = a.Seal(pr); bytes.Equal(again, datagram) {
				return
			}
		}
		t.Fatalf("opened %x that the peer never sealed", datagram)
	})
}
