package registry

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

var update = flag.Bool("update", false, "write testdata anew")

// goldenRegistry publishes one device of every field and a plain one.
func goldenRegistry(t testing.TB) (*Registry, []Message) {
	t.Helper()
	r := New(Config{Identity: identity.FromSeed([32]byte{1}), Cluster: identity.ClusterID{1, 2, 3}, Claims: map[string]uint32{"garage-zwave": 3}})
	if _, err := r.SetEpoch(0, 7); err != nil {
		t.Fatal(err)
	}
	messages, err := r.Publish(0, []Device{{
		Name: "garage-zwave", Kind: "zwave", Profile: "aeotec-gen5",
		Hardware:     Hardware{VID: "0658", PID: "0200", Serial: "A1", Interface: "00", Port: "1-1.2", Path: "/dev/ttyACM0"},
		Capabilities: []string{"break", "baud"}, Line: "115200n81", Labels: map[string]string{"zone": "garage", "a": "b"},
		State: StateInUse, User: identity.NodeID{9, 8, 7}, Detail: "since breakfast",
	}, {Name: "plain"}})
	if err != nil || len(messages) != 3 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	return r, messages
}

// TestGoldenBytes holds the wire form still: other versions speak it.
func TestGoldenBytes(t *testing.T) {
	r, messages := goldenRegistry(t)
	hint := sign(r.cfg.Identity, r.cfg.Cluster, kindHint, encode(hintBody{r.cfg.Identity.Public(), 7, 3}))
	for name, got := range map[string][]byte{
		"entry": messages[0].Wire, "entry-plain": messages[1].Wire, "list": messages[2].Wire, "hint": hint, "digest": r.Digest(),
	} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		if name == "digest" {
			continue
		}
		m, err := decode(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := m.verify(r.cfg.Cluster); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownKeysPass: a later version may say more of a device; this one
// keeps and passes on what it does not understand.
func TestUnknownKeysPass(t *testing.T) {
	id := identity.FromSeed([32]byte{1})
	encoded := encode(map[int]any{1: []byte(id.Public()), 2: 1, 3: 1, 4: "a", 5: 1, 12: 77, 99: map[int]any{1: []string{"x"}}})
	wire := sign(id, identity.ClusterID{}, kindEntry, encoded)
	r := New(Config{Identity: identity.FromSeed([32]byte{2})})
	if got, err := r.Merge(0, wire); err != nil || got.Outcome != Changed {
		t.Fatalf("%+v, %v", got, err)
	}
	if h := r.owners[id.ID()].entries["a"]; !bytes.Equal(h.wire, wire) || h.device.State.String() != "state 77" {
		t.Errorf("kept %x, state %v", h.wire, h.device.State)
	}
}

func TestDecodeRefuses(t *testing.T) {
	key := []byte(identity.FromSeed([32]byte{1}).Public())
	entry := func(change func(map[int]any)) []byte {
		b := map[int]any{1: key, 2: 1, 3: 1, 4: "a", 5: 1, 12: 0}
		change(b)
		return append(append([]byte{byte(kindEntry)}, encode(b)...), make([]byte, 64)...)
	}
	list := func(names ...listItem) []byte {
		return append(append([]byte{byte(kindList)}, encode(listBody{key, 1, 9, names})...), make([]byte, 64)...)
	}
	item := func(name string, sequence uint64) listItem { return listItem{Name: name, Epoch: 1, Sequence: sequence} }
	many := make([]listItem, maxDevices+1)
	for i := range many {
		many[i] = item(fmt.Sprintf("n%04d", i), 1)
	}
	for what, wire := range map[string][]byte{
		"short key":              entry(func(b map[int]any) { b[1] = key[:31] }),
		"no key":                 entry(func(b map[int]any) { delete(b, 1) }),
		"sequence 0":             entry(func(b map[int]any) { b[3] = 0 }),
		"claim 0":                entry(func(b map[int]any) { b[5] = 0 }),
		"claim too large":        entry(func(b map[int]any) { b[5] = uint64(1) << 32 }),
		"bad name":               entry(func(b map[int]any) { b[4] = "a@b" }),
		"short user":             entry(func(b map[int]any) { b[13] = []byte{1} }),
		"escape sequence":        entry(func(b map[int]any) { b[14] = "\x1b]0;" }),
		"text as number":         entry(func(b map[int]any) { b[7] = 5 }),
		"list out of order":      list(item("b", 1), item("a", 2)),
		"list with a name twice": list(item("a", 1), item("a", 2)),
		"list of the future":     list(item("a", 9)),
		"list too long":          list(many...),
		"indefinite length":      append(append([]byte{byte(kindEntry)}, 0xbf, 0xff), make([]byte, 64)...),
	} {
		if _, err := decode(wire); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if _, err := decode(entry(func(map[int]any) {})); err != nil {
		t.Errorf("the entry that the others were made of: %v", err)
	}
	if _, err := decode(list(many[:maxDevices]...)); err != nil {
		t.Errorf("the longest list: %v", err)
	}
}

func TestTidyDetail(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"open: denied":           "open: denied",
		"a\nb\x1b[2J":            "a b [2J",
		"\xff":                   "?",
		strings.Repeat("x", 200): strings.Repeat("x", 200),
		strings.Repeat("x", 201): strings.Repeat("x", 197) + "…",
		strings.Repeat("ü", 101): strings.Repeat("ü", 98) + "…",
	} {
		if got := tidyDetail(in); got != want || checkText("detail", got, maxDetail) != nil {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestConfigZeroValue: every field but Identity has a default, and none is
// forgotten here.
func TestConfigZeroValue(t *testing.T) {
	r := New(Config{Identity: identity.FromSeed([32]byte{1})})
	if r.cfg.Hold != defaultHold {
		t.Errorf("hold %v", r.cfg.Hold)
	}
	known := map[string]bool{"Identity": true, "Cluster": true, "NodeName": true, "Hold": true, "Claims": true, "SaveClaims": true, "Refuse": true}
	for f := range reflect.TypeFor[Config]().Fields() {
		if !known[f.Name] {
			t.Errorf("field %s: say here what its zero value means", f.Name)
		}
	}
	if _, err := r.Publish(0, []Device{{Name: "a"}}); err != nil {
		t.Error(err)
	}
}

func fuzzSeeds(f *testing.F, kind messageKind) {
	_, messages := goldenRegistry(f)
	for _, m := range messages {
		if messageKind(m.Wire[0]) == kind {
			f.Add(m.Wire)
		}
	}
}

func FuzzEntry(f *testing.F) {
	fuzzSeeds(f, kindEntry)
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := fuzzed(t, wire, kindEntry)
		if m == nil {
			return
		}
		b := bodyOf(m.device, m.claim, m.keeps)
		b.Key, b.Epoch, b.Sequence = m.key, m.version.Epoch, m.version.Sequence
		again, err := decode(append(append([]byte{byte(kindEntry)}, encode(b)...), make([]byte, 64)...))
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		if again.claim != m.claim || again.keeps != m.keeps || again.version != m.version || fmt.Sprint(again.device) != fmt.Sprint(m.device) {
			t.Errorf("read again %+v, want %+v", again, m)
		}
	})
}

func FuzzList(f *testing.F) {
	fuzzSeeds(f, kindList)
	f.Fuzz(func(t *testing.T, wire []byte) {
		if m := fuzzed(t, wire, kindList); m != nil && len(m.listed) > maxDevices {
			t.Errorf("%d names", len(m.listed))
		}
	})
}

// fuzzed merges and decodes wire; it returns what is of the wanted kind.
func fuzzed(t *testing.T, wire []byte, kind messageKind) *message {
	r := New(Config{Identity: identity.FromSeed([32]byte{2}), Cluster: identity.ClusterID{1, 2, 3}})
	if _, err := r.Merge(0, wire); err != nil && !errors.Is(err, ErrMessage) {
		t.Errorf("merge: %v", err)
	}
	m, err := decode(wire)
	if err != nil && !errors.Is(err, ErrMessage) {
		t.Errorf("decode: %v", err)
	}
	if m == nil || m.kind != kind {
		return nil
	}
	if !bytes.Equal(m.wire, wire) || len(wire) > MaxMessage || m.owner != identity.NodeIDOf(m.key) || m.version.Sequence == 0 {
		t.Errorf("decoded %+v", m)
	}
	return m
}

func FuzzDigest(f *testing.F) {
	r, messages := goldenRegistry(f)
	f.Add(r.Digest())
	f.Add(New(Config{Identity: r.cfg.Identity}).Digest())
	f.Fuzz(func(t *testing.T, digest []byte) {
		rows, err := decodeDigest(digest)
		if err != nil && !errors.Is(err, ErrMessage) || len(rows) > maxOwners+1 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
		sent, err := r.Answer(digest)
		if err != nil {
			return
		}
		want := len(messages)
		if row, ok := rows[r.self]; ok && row == r.owners[r.self].digest() {
			want = 0
		}
		if len(sent) != want {
			t.Errorf("%d messages, want %d", len(sent), want)
		}
	})
}
