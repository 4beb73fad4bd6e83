package admission_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/admission"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/removal"
)

var update = flag.Bool("update", false, "write testdata")

var cluster = identity.ClusterID{1, 2, 3}

func key(t testing.TB, number uint32, which byte, inUse bool) keyring.Key {
	t.Helper()
	secret := identity.SecretOf(cluster, number, [32]byte{byte(number), which})
	statement, err := keyring.SignStatement(identity.FromSeed([32]byte{1}), secret, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyring.Key{Secret: secret, Statement: statement, InUse: inUse}
}

func removed(t testing.TB) removal.Statement {
	t.Helper()
	s, err := removal.Sign(identity.FromSeed([32]byte{1}), cluster, identity.NodeID{9}, "lost")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hello(t testing.TB, keys ...keyring.Key) admission.Hello {
	return admission.Hello{Version: admission.Version, Nonce: [16]byte{5}, Keys: admission.Tags(keys), Removals: [32]byte{6}}
}

func transcript() admission.Transcript {
	return admission.Transcript{Dialer: identity.NodeID{1}, Accepter: identity.NodeID{2}, DialerHello: []byte("a"), AccepterHello: []byte("b")}
}

func frames(t testing.TB) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	put := func(name string, frame []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out[name] = frame
	}
	frame, err := admission.Append(nil, hello(t, key(t, 3, 0, false), key(t, 2, 0, true)))
	put("hello", frame, err)
	frame, err = admission.Append(nil, transcript().Prove(key(t, 2, 0, true).Secret, admission.Dialer))
	put("proof", frame, err)
	frame, err = admission.Append(nil, admission.Gift{
		Keys:     admission.Missing([]keyring.Key{key(t, 3, 0, false), key(t, 2, 0, true)}, hello(t, key(t, 1, 0, true))),
		Removals: [][]byte{removed(t).Wire()},
	})
	put("gift", frame, err)
	put("hint", admission.Hint{From: identity.NodeID{7}, Digest: [8]byte{8}, Number: 3}.Encode(), nil)
	put("removal", admission.EncodeRemoval(removed(t)), nil)
	return out
}

// The bytes of each message, as older and newer versions know them.
func TestGoldenBytes(t *testing.T) {
	for name, frame := range frames(t) {
		path := "testdata/" + name + ".hex"
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(frame)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(want)) != hex.EncodeToString(frame) {
			t.Errorf("%s: %v; have %x", path, err, frame)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	all := frames(t)
	read := func(name string) []byte {
		frame, err := admission.ReadFrame(bytes.NewReader(all[name]))
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	h, err := admission.Parse[admission.Hello](read("hello"))
	if err != nil || !reflect.DeepEqual(h, hello(t, key(t, 3, 0, false), key(t, 2, 0, true))) {
		t.Errorf("hello: %+v, %v", h, err)
	}
	if h.Newest() != 2 {
		t.Errorf("newest in use: %d, want 2", h.Newest())
	}
	p, err := admission.Parse[admission.Proof](read("proof"))
	if err != nil || p != transcript().Prove(key(t, 2, 0, true).Secret, admission.Dialer) {
		t.Errorf("proof: %v", err)
	}
	g, err := admission.Parse[admission.Gift](read("gift"))
	if err != nil || len(g.Keys) != 2 || len(g.Removals) != 1 {
		t.Fatalf("gift: %v, %v", g, err)
	}
	if k, err := g.Keys[0].Key(cluster); err != nil || k != key(t, 3, 0, false) {
		t.Errorf("key of the gift: %v, %v", k, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", g, g, g, &g); strings.Contains(text, "ssp1") {
		t.Errorf("a gift prints its secrets: %s", text)
	}
	if _, err := admission.Parse[admission.Gift](read("hello")); !errors.Is(err, admission.ErrMessage) {
		t.Errorf("hello as gift: %v", err)
	}
	r, err := admission.ParseRumour(cluster, all["hint"])
	if err != nil || r.Hint == nil || *r.Hint != (admission.Hint{From: identity.NodeID{7}, Digest: [8]byte{8}, Number: 3}) {
		t.Errorf("hint: %+v, %v", r, err)
	}
	r, err = admission.ParseRumour(cluster, all["removal"])
	if err != nil || r.Removal == nil || *r.Removal != removed(t) {
		t.Errorf("removal: %+v, %v", r, err)
	}
	if cbor.Wellformed(all["hint"]) == nil || cbor.Wellformed(all["removal"]) == nil {
		t.Error("a rumour may be taken for a message in CBOR")
	}
}

// Another version is told apart from nonsense; what this one does not know in a
// message of its own version is passed over.
func TestVersions(t *testing.T) {
	encode := func(fields map[int]any) []byte {
		data, err := cbor.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{byte(admission.TypeHello)}, data...)
	}
	if _, err := admission.Parse[admission.Hello](encode(map[int]any{1: 2, 3: "something else"})); !errors.Is(err, admission.ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
	full := map[int]any{1: 1, 2: make([]byte, 16), 3: []map[int]any{{1: 4, 2: make([]byte, 8), 3: true, 9: "new"}}, 4: make([]byte, 32), 99: "new"}
	if h, err := admission.Parse[admission.Hello](encode(full)); err != nil || h.Newest() != 4 {
		t.Errorf("with more in it: %+v, %v", h, err)
	}
	full[3] = []map[int]any{}
	if _, err := admission.Parse[admission.Hello](encode(full)); !errors.Is(err, admission.ErrMessage) {
		t.Errorf("without keys: %v", err)
	}
}

func TestWhatIsMissing(t *testing.T) {
	ours := []keyring.Key{key(t, 4, 0, false), key(t, 3, 1, true), key(t, 3, 0, true), key(t, 2, 0, true)}
	for name, row := range map[string]struct {
		theirs []keyring.Key
		common uint32
		gift   string
	}{
		"the same":              {ours, 4, ""},
		"older":                 {ours[3:], 2, "4 3+ 3+ "},
		"not yet in use there":  {[]keyring.Key{key(t, 4, 0, false), key(t, 3, 1, false), ours[2], ours[3]}, 4, "3+ "},
		"another of one number": {[]keyring.Key{key(t, 3, 2, true), ours[3]}, 2, "4 3+ 3+ "},
		"nothing in common":     {[]keyring.Key{key(t, 9, 0, true)}, 0, "4 3+ 3+ 2+ "},
	} {
		theirs := hello(t, row.theirs...)
		secret, ok := admission.Common(ours, theirs)
		if ok != (row.common > 0) || ok && secret.KeyNumber != row.common {
			t.Errorf("%s: in common %v, %v", name, secret, ok)
		}
		gift := ""
		for _, g := range admission.Missing(ours, theirs) {
			k, err := g.Key(cluster)
			if err != nil {
				t.Fatal(err)
			}
			gift += fmt.Sprint(k.Secret.KeyNumber) + map[bool]string{true: "+ ", false: " "}[k.InUse]
		}
		if gift != row.gift {
			t.Errorf("%s: gift %q, want %q", name, gift, row.gift)
		}
	}
}

// A proof is good for one exchange, one side and one secret.
func TestProof(t *testing.T) {
	secret, other := key(t, 2, 0, true).Secret, key(t, 2, 1, true).Secret
	p := transcript().Prove(secret, admission.Dialer)
	if !transcript().Verify(secret, admission.Dialer, p) {
		t.Error("it is not taken")
	}
	if transcript().Verify(secret, admission.Accepter, p) || transcript().Verify(other, admission.Dialer, p) {
		t.Error("it is taken for the other side, or another secret")
	}
	for i, change := range []func(*admission.Transcript){
		func(x *admission.Transcript) { x.Dialer[0]++ },
		func(x *admission.Transcript) { x.Accepter[0]++ },
		func(x *admission.Transcript) { x.DialerHello = []byte("c") },
		func(x *admission.Transcript) { x.AccepterHello = []byte("c") },
		func(x *admission.Transcript) { x.DialerHello, x.AccepterHello = []byte("ab"), nil },
	} {
		x := transcript()
		if change(&x); x.Verify(secret, admission.Dialer, p) {
			t.Errorf("it is taken in another exchange (%d)", i)
		}
	}
}

func TestReadFrameIsBounded(t *testing.T) {
	for name, row := range map[string]struct {
		data string
		want error
	}{
		"nothing":   {"", io.EOF},
		"no length": {"\x00\x00", io.ErrUnexpectedEOF},
		"empty":     {"\x00\x00\x00\x00", admission.ErrMessage},
		"too long":  {"\x00\x10\x00\x01x", admission.ErrMessage},
		"cut off":   {"\x00\x0f\x00\x00xyz", io.ErrUnexpectedEOF},
	} {
		if _, err := admission.ReadFrame(strings.NewReader(row.data)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

func FuzzHandOver(f *testing.F) {
	for name, frame := range frames(f) {
		if name == "hello" || name == "proof" || name == "gift" {
			f.Add(frame[4:])
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		fuzz[admission.Hello](t, frame)
		fuzz[admission.Proof](t, frame)
		fuzz[admission.Gift](t, frame)
	})
}

// fuzz reads a frame; what is read must survive being written.
func fuzz[M admission.Hello | admission.Proof | admission.Gift](t *testing.T, frame []byte) {
	m, err := admission.Parse[M](frame)
	if err != nil {
		if !errors.Is(err, admission.ErrMessage) && !errors.Is(err, admission.ErrVersion) {
			t.Errorf("error %v", err)
		}
		return
	}
	if g, ok := any(m).(admission.Gift); ok {
		for _, k := range g.Keys {
			k.Key(cluster)
		}
	}
	wire, err := admission.Append(nil, m)
	if err != nil {
		return // it would be too long with canonical lengths
	}
	if n := binary.BigEndian.Uint32(wire); int(n) != len(wire)-4 {
		t.Errorf("length %d of %d bytes", n, len(wire)-4)
	}
	again, err := admission.Parse[M](wire[4:])
	if err != nil || fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", m) {
		t.Errorf("what was written is not read the same: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := admission.ReadFrame(bytes.NewReader(data))
		if err == nil && (len(frame) == 0 || len(frame) > admission.MaxFrame || !bytes.Equal(frame, data[4:4+len(frame)])) {
			t.Error("it is not what was sent")
		}
	})
}

func FuzzRumour(f *testing.F) {
	f.Add(frames(f)["hint"])
	f.Add(frames(f)["removal"])
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, err := admission.ParseRumour(cluster, wire)
		switch {
		case err != nil:
		case r.Hint != nil && !bytes.Equal(r.Hint.Encode(), wire), r.Removal != nil && !bytes.Equal(admission.EncodeRemoval(*r.Removal), wire):
			t.Error("what was written is not read the same")
		}
	})
}
