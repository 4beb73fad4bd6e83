package keyring_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/keyring"
)

var update = flag.Bool("update", false, "write testdata")

var cluster = identity.ClusterID{1, 2, 3}

// made returns a secret of this key number, made by node n; which tells those
// of one number apart.
func made(t testing.TB, number uint32, which, n byte, oldest uint32) keyring.Key {
	t.Helper()
	secret := identity.SecretOf(cluster, number, [32]byte{byte(number), which})
	statement, err := keyring.SignStatement(identity.FromSeed([32]byte{n}), secret, oldest)
	if err != nil {
		t.Fatal(err)
	}
	return keyring.Key{Secret: secret, Statement: statement}
}

func inUse(k keyring.Key) keyring.Key {
	k.InUse = true
	return k
}

func numbers(r *keyring.Ring) (all []uint32) {
	for _, k := range r.Keys() {
		all = append(all, k.Secret.KeyNumber)
	}
	return all
}

func TestRotations(t *testing.T) {
	r := keyring.New(made(t, 1, 0, 1, 0))
	member := identity.NodeID{7}
	for n := uint32(2); n <= 7; n++ {
		if n == 2 {
			r.Know([]identity.NodeID{member})
		}
		if changed, err := r.Add(made(t, n, 0, 1, 0)); !changed || err != nil {
			t.Fatalf("offer %d: %v, %v", n, changed, err)
		}
		if next, ok := r.Next(); !ok || next.Secret.KeyNumber != n || r.Current().Secret.KeyNumber != n-1 {
			t.Fatalf("offered %d: next %v, in use %d", n, ok, r.Current().Secret.KeyNumber)
		}
		if changed, err := r.Add(inUse(made(t, n, 0, 1, 0))); !changed || err != nil {
			t.Fatalf("use %d: %v, %v", n, changed, err)
		}
		if changed, _ := r.Add(made(t, n, 0, 1, 0)); changed {
			t.Errorf("what is in use was offered: the ring changed")
		}
		if _, ok := r.Next(); ok || r.Current().Secret.KeyNumber != n {
			t.Fatalf("%d is not in use", n)
		}
		if knows := r.Knows(member); knows != (n <= 3) {
			t.Errorf("in use %d: a member of key 1 is known: %v", n, knows)
		}
	}
	if have := numbers(r); !slices.Equal(have, []uint32{7, 6, 5}) || r.Oldest() != 5 {
		t.Errorf("accepted %v, oldest %d", have, r.Oldest())
	}
	var named []uint32
	for _, n := range r.Named() {
		named = append(named, n.Number)
		if n.JoinKey != made(t, n.Number, 0, 1, 0).Secret.JoinKey() {
			t.Errorf("key %d is named by another join key", n.Number)
		}
	}
	if !slices.Equal(named, []uint32{4, 3}) {
		t.Errorf("named %v", named)
	}
}

func TestStatementDropsOldKeys(t *testing.T) {
	r := keyring.New(made(t, 1, 0, 1, 0))
	strict := made(t, 2, 0, 1, 2)
	if _, err := r.Add(strict); err != nil || r.Oldest() != 0 {
		t.Fatalf("offered: %v, oldest %d", err, r.Oldest())
	}
	if _, err := r.Add(inUse(strict)); err != nil || r.Oldest() != 2 || len(r.Keys()) != 1 || len(r.Named()) != 1 {
		t.Errorf("in use: %v, %v", err, numbers(r))
	}
	if _, err := r.Add(made(t, 1, 0, 1, 0)); !errors.Is(err, keyring.ErrOld) {
		t.Errorf("the old one again: %v", err)
	}
}

func TestRefused(t *testing.T) {
	r := keyring.New(made(t, 5, 0, 1, 0))
	other := made(t, 6, 0, 1, 0)
	other.Secret = identity.SecretOf(identity.ClusterID{9}, 6, [32]byte{6})
	wrong := made(t, 6, 0, 1, 0)
	wrong.Statement = made(t, 6, 1, 1, 0).Statement
	for name, row := range map[string]struct {
		key  keyring.Key
		want error
	}{
		"another cluster":        {other, keyring.ErrCluster},
		"statement of another":   {wrong, keyring.ErrStatement},
		"no statement":           {keyring.Key{Secret: made(t, 6, 0, 1, 0).Secret}, keyring.ErrStatement},
		"too old":                {made(t, 2, 0, 1, 0), keyring.ErrOld},
		"far ahead":              {made(t, 14, 0, 1, 0), keyring.ErrAhead},
		"the last number of all": {made(t, 1<<32-1, 0, 1, 0), keyring.ErrAhead},
		"as far as can be":       {made(t, 13, 0, 1, 0), nil},
		"as old as can be":       {inUse(made(t, 3, 0, 1, 0)), nil},
		"offered, and older":     {made(t, 4, 0, 1, 0), nil},
	} {
		if _, err := r.Clone().Add(row.key); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	if changed, _ := r.Add(made(t, 4, 0, 1, 0)); changed {
		t.Error("what was offered and is overtaken is kept")
	}
}

// Whatever members hear of rotations, in whatever order and how often: those
// that heard the same hold the same.
func TestMergeDoesNotDependOnOrder(t *testing.T) {
	var keys []keyring.Key
	for n := uint32(2); n <= 5; n++ {
		for which := byte(0); which < 2; which++ {
			k := made(t, n, which, which+1, 0)
			keys = append(keys, k, inUse(k))
		}
	}
	seen := map[string]bool{}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := keyring.New(made(t, 1, 0, 1, 0))
		for range 3 {
			for _, i := range random.Perm(len(keys)) {
				r.Add(keys[i])
			}
		}
		text := fmt.Sprint(r.Current().Secret.Fingerprint(), numbers(r), r.Oldest())
		for _, k := range r.Keys() {
			text += k.Secret.Fingerprint()
		}
		seen[text] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d different rings, want one: %v", len(seen), seen)
	}
}

func TestFile(t *testing.T) {
	r := keyring.New(made(t, 3, 0, 1, 0))
	r.Know([]identity.NodeID{{1}, {2}})
	for _, k := range []keyring.Key{inUse(made(t, 6, 0, 2, 0)), made(t, 7, 1, 1, 7)} {
		if _, err := r.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	r.Know([]identity.NodeID{{2}, {3}})
	text := r.Marshal()
	golden(t, "ring.txt", text)
	back, err := keyring.Unmarshal(text)
	if err != nil || !bytes.Equal(back.Marshal(), text) || back.Cluster() != cluster {
		t.Fatalf("read back: %v", err)
	}
	secret := made(t, 3, 0, 1, 0).Secret.Text()
	for name, text := range map[string]string{
		"nothing":               "",
		"a secret alone":        secret,
		"nothing in use":        strings.ReplaceAll(string(text), "in-use", "offered"),
		"an unknown word":       "key maybe " + secret + " 00\n",
		"a statement of others": string(text) + "key offered " + secret + " " + hex.EncodeToString(made(t, 6, 0, 2, 0).Statement.Wire()),
		"too much":              strings.Repeat("#\n", keyring.MaxFile),
	} {
		_, err := keyring.Unmarshal([]byte(text))
		if !errors.Is(err, keyring.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "ssp1") {
			t.Errorf("%s: the error quotes a secret", name)
		}
	}
}

func TestStatement(t *testing.T) {
	k := made(t, 4, 0, 1, 2)
	wire := k.Statement.Wire()
	golden(t, "statement.hex", []byte(hex.EncodeToString(wire)+"\n"))
	back, err := keyring.ParseStatement(cluster, wire)
	if err != nil || back != k.Statement || !back.Fits(k.Secret) || back.Issuer() != identity.FromSeed([32]byte{1}).ID() {
		t.Fatalf("read back: %+v, %v", back, err)
	}
	if back.Fits(made(t, 4, 1, 1, 2).Secret) || (keyring.Statement{}).Fits(identity.Secret{}) {
		t.Error("it fits another secret")
	}
	if _, err := keyring.ParseStatement(identity.ClusterID{9}, wire); !errors.Is(err, keyring.ErrStatement) {
		t.Errorf("in another cluster: %v", err)
	}
	for i := range wire {
		bad := bytes.Clone(wire)
		bad[i] ^= 1
		if _, err := keyring.ParseStatement(cluster, bad); !errors.Is(err, keyring.ErrStatement) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	}
}

func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s: %v; have\n%s\nwant\n%s", path, err, have, want)
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add(made(f, 4, 0, 1, 2).Statement.Wire())
	f.Fuzz(func(t *testing.T, wire []byte) {
		s, err := keyring.ParseStatement(cluster, wire)
		if err == nil && !bytes.Equal(s.Wire(), wire) {
			t.Error("it does not keep its bytes")
		}
		if err != nil && !errors.Is(err, keyring.ErrStatement) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	r := keyring.New(made(f, 3, 0, 1, 0))
	r.Know([]identity.NodeID{{1}})
	r.Add(inUse(made(f, 6, 0, 2, 0)))
	f.Add(r.Marshal())
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := keyring.Unmarshal(text)
		if err != nil {
			if !errors.Is(err, keyring.ErrFile) {
				t.Errorf("error %v", err)
			}
			return
		}
		r.Current()
		again, err := keyring.Unmarshal(r.Marshal())
		if err != nil || !bytes.Equal(again.Marshal(), r.Marshal()) {
			t.Errorf("what was written is not read the same: %v", err)
		}
	})
}
