package roster_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

var update = flag.Bool("update", false, "write the golden files anew")

var cluster = identity.ClusterID{1, 2, 3}

// node returns the n-th identity.
func node(n uint32) *identity.Identity {
	var seed [32]byte
	binary.BigEndian.PutUint32(seed[:], n)
	return identity.FromSeed(seed)
}

// plain returns a small valid record.
func plain(start byte, epoch, sequence uint64) roster.Record {
	return roster.Record{
		Name: "garage", WireGuard: identity.WireGuardKey{9}, Start: roster.Start{start},
		Epoch: epoch, Sequence: sequence,
	}
}

// full returns a record with every field as long as it may be.
func full() roster.Record {
	r := roster.Record{
		Name: strings.Repeat("n", roster.MaxName), WireGuard: identity.WireGuardKey{9}, Start: roster.Start{1},
		Epoch: roster.MaxCount, Sequence: roster.MaxCount,
		KubeSpan: netip.MustParseAddr("fd00::7"), Version: strings.Repeat("v", roster.MaxVersion),
		Relay: true, Through: []roster.RelayHint{{1, 2}, {}, {255, 255}},
	}
	for i := range roster.MaxEndpoints {
		r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), uint16(50000+i)))
	}
	return r
}

func sign(t testing.TB, id *identity.Identity, r roster.Record) roster.Signed {
	t.Helper()
	s, err := roster.Sign(id, cluster, r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecordRoundTrip(t *testing.T) {
	mixed := plain(1, 2, 3)
	mixed.Endpoints = []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:51821"), netip.MustParseAddrPort("[2001:db8::1]:51821"),
		netip.MustParseAddrPort("127.0.0.1:1"),
	}
	mixed.Version = "v1.2.3"
	for name, r := range map[string]roster.Record{"plain": plain(1, 1, 0), "mixed": mixed, "full": full()} {
		t.Run(name, func(t *testing.T) {
			signed := sign(t, node(1), r)
			parsed, err := roster.Parse(cluster, signed.Wire())
			if err != nil {
				t.Fatal(err)
			}
			got, want := parsed.Record(), r
			want.Key = node(1).Public()
			if got.Name != want.Name || !got.Key.Equal(want.Key) || got.WireGuard != want.WireGuard || got.Start != want.Start ||
				got.Epoch != want.Epoch || got.Sequence != want.Sequence || got.KubeSpan != want.KubeSpan ||
				!slices.Equal(got.Endpoints, want.Endpoints) || got.Version != want.Version ||
				got.Relay != want.Relay || !slices.Equal(got.Through, want.Through) {
				t.Errorf("parsed %+v, want %+v", got, want)
			}
			if parsed.ID() != node(1).ID() || parsed.Hash() != sha256.Sum256(signed.Wire()) {
				t.Error("NodeID or hash differ")
			}
			if roster.Compare(parsed, signed) != 0 {
				t.Error("parsed and signed differ in order")
			}
		})
	}
	if n := len(sign(t, node(1), full()).Wire()); n != 448 || n > roster.MaxWire {
		t.Errorf("the largest record has %d bytes, doc.go says 448", n)
	}
}

func TestRecordGolden(t *testing.T) {
	r := plain(1, 2, 3)
	r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51821"), netip.MustParseAddrPort("[2001:db8::1]:51821")}
	r.KubeSpan, r.Version = netip.MustParseAddr("fd12::1"), "v0.1.0"
	r.Relay, r.Through = true, []roster.RelayHint{roster.HintOf(node(2).ID())}
	got := hex.EncodeToString(sign(t, node(1), r).Wire()) + "\n"
	path := filepath.Join("testdata", "record.hex")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("wire form\n%s, golden\n%s", got, want)
	}
}

func TestSignNormalizes(t *testing.T) {
	r := plain(1, 1, 1)
	r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("[::ffff:192.0.2.1]:7")}
	s := sign(t, node(1), r)
	if got := s.Record().Endpoints[0]; got != netip.MustParseAddrPort("192.0.2.1:7") {
		t.Errorf("endpoint %s", got)
	}
	if r.Endpoints[0].Addr().Is4() {
		t.Error("Sign changed its argument")
	}
}

func TestSignedIsImmutable(t *testing.T) {
	r := full()
	s := sign(t, node(1), r)
	want := s.Wire()
	r.Endpoints[0] = netip.AddrPort{}
	s.Wire()[0] ^= 1
	s.Record().Endpoints[0] = netip.AddrPort{}
	s.Record().Key[0] ^= 1
	if !bytes.Equal(s.Wire(), want) || !s.Record().Endpoints[0].IsValid() || !s.Record().Key.Equal(node(1).Public()) {
		t.Error("a caller changed the record")
	}
	wire := s.Wire()
	parsed, err := roster.Parse(cluster, wire)
	if err != nil {
		t.Fatal(err)
	}
	clear(wire)
	if !bytes.Equal(parsed.Wire(), want) {
		t.Error("Parse kept its argument")
	}
}

// badRecords are records that break one rule each.
var badRecords = map[string]func(*roster.Record){
	"no name":               func(r *roster.Record) { r.Name = "" },
	"long name":             func(r *roster.Record) { r.Name = strings.Repeat("n", 64) },
	"name with @":           func(r *roster.Record) { r.Name = "a@b" },
	"name with slash":       func(r *roster.Record) { r.Name = "a/b" },
	"name with space":       func(r *roster.Record) { r.Name = "a b" },
	"name with escape":      func(r *roster.Record) { r.Name = "a\x1b[2J" },
	"name like an option":   func(r *roster.Record) { r.Name = "-rf" },
	"name with bidi mark":   func(r *roster.Record) { r.Name = "a\u202eb" },
	"name not UTF-8":        func(r *roster.Record) { r.Name = "a\xff" },
	"parent directory":      func(r *roster.Record) { r.Name = ".." },
	"no WireGuard key":      func(r *roster.Record) { r.WireGuard = identity.WireGuardKey{} },
	"no start":              func(r *roster.Record) { r.Start = roster.Start{} },
	"large epoch":           func(r *roster.Record) { r.Epoch = roster.MaxCount + 1 },
	"large sequence":        func(r *roster.Record) { r.Sequence = roster.MaxCount + 1 },
	"KubeSpan IPv4":         func(r *roster.Record) { r.KubeSpan = netip.MustParseAddr("10.0.0.1") },
	"KubeSpan global":       func(r *roster.Record) { r.KubeSpan = netip.MustParseAddr("2001:db8::1") },
	"KubeSpan zone":         func(r *roster.Record) { r.KubeSpan = netip.MustParseAddr("fd00::1%eth0") },
	"four relays":           func(r *roster.Record) { r.Through = make([]roster.RelayHint, 4) },
	"nine endpoints":        func(r *roster.Record) { r.Endpoints = make([]netip.AddrPort, 9) },
	"endpoint unspecified":  func(r *roster.Record) { r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:1")} },
	"endpoint multicast":    func(r *roster.Record) { r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("[ff02::1]:1")} },
	"endpoint without port": func(r *roster.Record) { r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} },
	"endpoint with zone":    func(r *roster.Record) { r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%e]:1")} },
	"endpoint missing":      func(r *roster.Record) { r.Endpoints = make([]netip.AddrPort, 1) },
	"long version":          func(r *roster.Record) { r.Version = strings.Repeat("v", 25) },
	"version with newline":  func(r *roster.Record) { r.Version = "v1\n" },
	"key of another node":   func(r *roster.Record) { r.Key = node(2).Public() },
	"short key":             func(r *roster.Record) { r.Key = node(1).Public()[:31] },
}

func TestSignRefuses(t *testing.T) {
	for name, breakIt := range badRecords {
		t.Run(name, func(t *testing.T) {
			r := plain(1, 1, 1)
			breakIt(&r)
			if s, err := roster.Sign(node(1), cluster, r); !errors.Is(err, roster.ErrRecord) || !s.IsZero() {
				t.Errorf("Sign: %v, want ErrRecord", err)
			}
		})
	}
}

// forge signs any CBOR map as a record of cluster.
func forge(t testing.TB, id *identity.Identity, body []byte) []byte {
	t.Helper()
	message := append(slices.Clone(cluster[:]), body...)
	return append(slices.Clone(body), id.Sign("serialspan node record v1", message)...)
}

// fields are the CBOR values of a valid record.
func fields() map[uint64]any {
	wg, start := [32]byte{9}, [16]byte{1}
	return map[uint64]any{1: "garage", 2: []byte(node(1).Public()), 3: wg[:], 4: start[:], 5: 1, 6: 1}
}

func canonical(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	data, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseRefuses(t *testing.T) {
	with := func(key uint64, value any) []byte {
		f := fields()
		f[key] = value
		return canonical(t, f)
	}
	without := func(key uint64) []byte {
		f := fields()
		delete(f, key)
		return canonical(t, f)
	}
	sound := canonical(t, fields())
	if _, err := roster.Parse(cluster, forge(t, node(1), sound)); err != nil {
		t.Fatalf("the sound body: %v", err)
	}
	for name, body := range map[string][]byte{
		"empty map":           {0xa0},
		"not a map":           {0x80},
		"no name":             without(1),
		"no key":              without(2),
		"no WireGuard key":    without(3),
		"no start":            without(4),
		"no epoch":            without(5),
		"no sequence":         without(6),
		"null name":           with(1, nil),
		"name as bytes":       with(1, []byte("garage")),
		"short key":           with(2, make([]byte, 31)),
		"key as array":        with(2, []int{1, 2, 3}),
		"long WireGuard key":  with(3, make([]byte, 33)),
		"short start":         with(4, make([]byte, 15)),
		"negative epoch":      with(5, -1),
		"huge epoch":          with(5, uint64(1<<63)),
		"empty KubeSpan":      with(7, []byte{}),
		"short KubeSpan":      with(7, make([]byte, 4)),
		"empty endpoints":     with(8, []any{}),
		"endpoint too short":  with(8, [][]byte{make([]byte, 5)}),
		"endpoint mapped":     with(8, [][]byte{append(netip.MustParseAddr("::ffff:1.2.3.4").AsSlice(), 0, 1)}),
		"four relays":         with(11, make([]byte, 8)),
		"half a hint":         with(11, make([]byte, 3)),
		"nine endpoints":      with(8, slices.Repeat([][]byte{{1, 2, 3, 4, 0, 1}}, 9)),
		"empty version":       with(9, ""),
		"text key":            canonical(t, map[any]any{"name": "garage"}),
		"trailing byte":       append(slices.Clone(sound), 0),
		"cut short":           sound[:len(sound)-1],
		"long integer":        bytes.Replace(sound, []byte{0x05, 0x01}, []byte{0x05, 0x18, 0x01}, 1),
		"duplicate key":       append(append([]byte{0xa7}, sound[1:]...), 0x06, 0x01),
		"indefinite length":   append(append([]byte{0xbf}, sound[1:]...), 0xff),
		"keys out of order":   canonicalButSwapped(sound),
		"tag in unknown":      with(20, cbor.Tag{Number: 99, Content: 1}),
		"too deep in unknown": with(20, []any{[]any{[]any{[]any{[]any{}}}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := roster.Parse(cluster, forge(t, node(1), body)); !errors.Is(err, roster.ErrRecord) {
				t.Errorf("Parse: %v, want ErrRecord", err)
			}
		})
	}
	t.Run("too long", func(t *testing.T) {
		if _, err := roster.Parse(cluster, forge(t, node(1), with(20, make([]byte, 300)))); !errors.Is(err, roster.ErrRecord) {
			t.Errorf("Parse: %v, want ErrRecord", err)
		}
	})
}

// canonicalButSwapped moves the last pair (06 01) to the front of the map.
func canonicalButSwapped(sound []byte) []byte {
	out := []byte{sound[0], 0x06, 0x01}
	return append(out, sound[1:len(sound)-2]...)
}

func TestParseSignature(t *testing.T) {
	wire := sign(t, node(1), plain(1, 1, 1)).Wire()
	if _, err := roster.Parse(identity.ClusterID{4}, wire); !errors.Is(err, roster.ErrSignature) {
		t.Errorf("in another cluster: %v, want ErrSignature", err)
	}
	if _, err := roster.Parse(cluster, forge(t, node(2), canonical(t, fields()))); !errors.Is(err, roster.ErrSignature) {
		t.Errorf("signed by another node: %v, want ErrSignature", err)
	}
	for i := range wire {
		bad := slices.Clone(wire)
		bad[i] ^= 0x40
		if _, err := roster.Parse(cluster, bad); err == nil {
			t.Fatalf("byte %d altered: accepted", i)
		}
	}
	for n := range wire {
		if _, err := roster.Parse(cluster, wire[:n]); err == nil {
			t.Fatalf("cut to %d bytes: accepted", n)
		}
	}
}

func TestParseKeepsUnknownKeys(t *testing.T) {
	f := fields()
	f[12], f[200] = "later", []any{1, map[int]bool{2: true}}
	wire := forge(t, node(1), canonical(t, f))
	s, err := roster.Parse(cluster, wire)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Wire(), wire) {
		t.Error("the wire form changed")
	}
	r := roster.New(roster.Signed{})
	r.Merge(s)
	kept, err := roster.Unmarshal(cluster, r.Marshal())
	if err != nil || len(kept) != 1 || !bytes.Equal(kept[0].Wire(), wire) {
		t.Errorf("persisted: %v", err)
	}
}
