package removal_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/removal"
)

var cluster = identity.ClusterID{1, 2, 3}

func node(n byte) *identity.Identity { return identity.FromSeed([32]byte{n}) }

func says(t testing.TB, issuer, about byte, name string) removal.Statement {
	t.Helper()
	s, err := removal.Sign(node(issuer), cluster, node(about).ID(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func everybody(identity.NodeID) bool { return true }
func nobody(identity.NodeID) bool    { return false }

func TestStatement(t *testing.T) {
	s := says(t, 1, 2, "garage")
	want, err := os.ReadFile("testdata/statement.hex")
	if err != nil || hex.EncodeToString(s.Wire()) != strings.TrimSpace(string(want)) {
		t.Errorf("testdata/statement.hex: %v; have %x", err, s.Wire())
	}
	back, err := removal.Parse(cluster, s.Wire())
	if err != nil || back != s || s.Name() != "garage" || s.Node() != node(2).ID() || s.Issuer() != node(1).ID() {
		t.Fatalf("read back: %+v, %v", back, err)
	}
	if _, err := removal.Parse(identity.ClusterID{9}, s.Wire()); !errors.Is(err, removal.ErrStatement) {
		t.Errorf("in another cluster: %v", err)
	}
	for i := range s.Wire() {
		bad := s.Wire()
		bad[i] ^= 1
		if _, err := removal.Parse(cluster, bad); !errors.Is(err, removal.ErrStatement) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	}
	if _, err := removal.Sign(node(1), cluster, node(1).ID(), ""); !errors.Is(err, removal.ErrStatement) {
		t.Errorf("of itself: %v", err)
	}
	if long := says(t, 1, 2, strings.Repeat("x", 64)); long.Name() != "" || len(long.Wire()) > removal.MaxWire {
		t.Errorf("a name that is too long: %q, %d bytes", long.Name(), len(long.Wire()))
	}
}

func TestSetGrowsInAnyOrder(t *testing.T) {
	all := []removal.Statement{says(t, 1, 2, "a"), says(t, 1, 2, "b"), says(t, 1, 3, ""), says(t, 4, 2, "c"), says(t, 2, 1, "")}
	var want [32]byte
	for seed := range uint64(50) {
		var s removal.Set
		for range 2 {
			for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(all)) {
				if _, err := s.Add(all[i], everybody); err != nil {
					t.Fatal(err)
				}
			}
		}
		if seed == 0 {
			want = s.Digest()
		}
		if s.Digest() != want || len(s.All()) != 4 {
			t.Fatalf("seed %d: another digest, or %d statements, want 4", seed, len(s.All()))
		}
		var back removal.Set
		if err := back.Unmarshal(cluster, s.Marshal(), everybody); err != nil || back.Digest() != want {
			t.Fatalf("read back: %v", err)
		}
	}
}

func TestWhoseWordCounts(t *testing.T) {
	var s removal.Set
	s.Add(says(t, 1, 3, "x"), everybody)
	s.Add(says(t, 2, 3, "y"), everybody)
	for i, want := range map[byte]string{1: "x", 2: "y"} {
		only := func(id identity.NodeID) bool { return id == node(i).ID() }
		if found, ok := s.Find(node(3).ID(), only); !ok || found.Name() != want {
			t.Errorf("where only %d counts: %q, %v", i, found.Name(), ok)
		}
	}
	if _, ok := s.Find(node(3).ID(), nobody); ok {
		t.Error("removed where nobody counts")
	}
	if _, ok := s.Find(node(1).ID(), everybody); ok {
		t.Error("a node of which nothing is said is removed")
	}
}

// Whoever does not count cannot fill the set, and one that does finds room.
func TestSetIsBounded(t *testing.T) {
	var s removal.Set
	var full error
	for i := range 400 {
		id := identity.NodeID{1, byte(i), byte(i >> 8)}
		statement, err := removal.Sign(node(9), cluster, id, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, full = s.Add(statement, nobody); full != nil {
			break
		}
	}
	if !errors.Is(full, removal.ErrFull) || len(s.All()) > 256 {
		t.Errorf("%d statements that do not count, %v", len(s.All()), full)
	}
	if added, err := s.Add(says(t, 1, 2, ""), everybody); !added || err != nil {
		t.Errorf("one that counts: %v, %v", added, err)
	}
	damaged := bytes.Replace(s.Marshal(), []byte("a4"), []byte("a5"), 1)
	var back removal.Set
	if err := back.Unmarshal(cluster, damaged, everybody); !errors.Is(err, removal.ErrStatement) || len(back.All()) < 250 {
		t.Errorf("of a damaged file %d are left, %v", len(back.All()), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(says(f, 1, 2, "garage").Wire())
	f.Add(says(f, 1, 2, "").Wire())
	f.Fuzz(func(t *testing.T, wire []byte) {
		s, err := removal.Parse(cluster, wire)
		if err == nil && !bytes.Equal(s.Wire(), wire) {
			t.Error("it does not keep its bytes")
		}
		if err != nil && !errors.Is(err, removal.ErrStatement) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	var s removal.Set
	s.Add(says(f, 1, 2, "garage"), everybody)
	f.Add(s.Marshal())
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, back removal.Set
		_ = s.Unmarshal(cluster, text, everybody)
		if err := back.Unmarshal(cluster, s.Marshal(), everybody); err != nil || back.Digest() != s.Digest() {
			t.Errorf("what was written is not read the same: %v", err)
		}
	})
}
