package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

// rfc8032 is the seed and public key of RFC 8032 section 7.1, test 1.
const (
	rfc8032Seed   = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
	rfc8032Public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vector(t testing.TB) *identity.Identity {
	t.Helper()
	return identity.FromSeed([32]byte(unhex(t, rfc8032Seed)))
}

// TestVectors pins what other members compute from the same values: changing
// any of it splits every cluster in the field.
func TestVectors(t *testing.T) {
	id := vector(t)
	if got := hex.EncodeToString(id.Public()); got != rfc8032Public {
		t.Errorf("public key %s, want that of RFC 8032", got)
	}
	var raw [16]byte
	copy(raw[:], unhex(t, "000102030405060708090a0b0c0d0e0f"))
	cluster := identity.ClusterID(raw)
	secret := identity.SecretOf(cluster, 7, [32]byte(bytes.Repeat([]byte{0xa5}, 32)))
	join, gossip, beacon := secret.JoinKey(), secret.GossipKey(), secret.BeaconKey()
	handOver, hash := secret.HandOverKey(), secret.Hash()
	for _, row := range []struct{ name, got, want string }{
		{"NodeID", id.ID().String(), goldenNodeID},
		{"short", id.ID().Short(), goldenNodeID[:8]},
		{"prefix", cluster.Prefix().String(), goldenPrefix},
		{"address", cluster.Address(id.ID()).String(), goldenAddress},
		{"label", cluster.Label(), goldenLabel},
		{"text", secret.Text(), goldenText},
		{"fingerprint", secret.Fingerprint(), goldenFingerprint},
		{"join key", hex.EncodeToString(join[:]), goldenJoinKey},
		{"gossip key", hex.EncodeToString(gossip[:]), goldenGossipKey},
		{"beacon key", hex.EncodeToString(beacon[:]), goldenBeaconKey},
		{"hand-over key", hex.EncodeToString(handOver[:]), goldenHandOverKey},
		{"secret hash", hex.EncodeToString(hash[:]), goldenSecretHash},
		{"signature", hex.EncodeToString(id.Sign("context", []byte("message"))), goldenSignature},
	} {
		if row.got != row.want {
			t.Errorf("%s: %s, want %s", row.name, row.got, row.want)
		}
	}
	if !cluster.Prefix().Contains(cluster.Address(id.ID())) || !cluster.Prefix().Addr().IsPrivate() {
		t.Error("the mesh address is not within a unique local prefix")
	}
}

func TestParseNodeID(t *testing.T) {
	id := vector(t).ID()
	for _, text := range []string{id.String(), strings.ToUpper(id.String())} {
		if got, err := identity.ParseNodeID(text); err != nil || got != id {
			t.Errorf("parse %q: %v, %v", text, got, err)
		}
	}
	s := id.String()
	for name, text := range map[string]string{
		"empty": "", "short": s[1:], "long": s + "a", "digit 1": "1" + s[1:], "space": " " + s[1:],
		"line break": "\n" + s[1:], "line breaks": strings.Repeat("\n", 26), "padding": s[:25] + "=",
		"bits that stand for nothing": s[:25] + "7",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := identity.ParseNodeID(text); !errors.Is(err, identity.ErrNodeID) {
				t.Errorf("parse %q: %v, want ErrNodeID", text, err)
			}
		})
	}
}

func TestNodeIDJSON(t *testing.T) {
	id := vector(t).ID()
	data, err := json.Marshal(map[identity.NodeID]identity.NodeID{id: id})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("{%q:%q}", id, id); string(data) != want {
		t.Errorf("JSON %s, want %s", data, want)
	}
	var back map[identity.NodeID]identity.NodeID
	if err := json.Unmarshal(data, &back); err != nil || back[id] != id {
		t.Errorf("read back %v, %v", back, err)
	}
	if err := new(identity.NodeID).UnmarshalText([]byte("x")); !errors.Is(err, identity.ErrNodeID) {
		t.Errorf("%v, want ErrNodeID", err)
	}
}

func TestNodeIDOrder(t *testing.T) {
	a, b := identity.NodeID{0, 255}, identity.NodeID{1, 0}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
		t.Error("NodeIDs are not ordered as big-endian numbers")
	}
	if !(identity.NodeID{}).IsZero() || a.IsZero() {
		t.Error("IsZero")
	}
}

func TestVerify(t *testing.T) {
	id := vector(t)
	signature := id.Sign("context", []byte("message"))
	for _, row := range []struct {
		name      string
		key       ed25519.PublicKey
		context   string
		message   string
		signature []byte
		want      bool
	}{
		{"sound", id.Public(), "context", "message", signature, true},
		{"another context", id.Public(), "contexu", "message", signature, false},
		{"shifted context", id.Public(), "contextm", "essage", signature, false},
		{"another message", id.Public(), "context", "messagf", signature, false},
		{"another key", identity.FromSeed([32]byte{1}).Public(), "context", "message", signature, false},
		{"no key", nil, "context", "message", signature, false},
		{"no signature", id.Public(), "context", "message", nil, false},
		{"long signature", id.Public(), "context", "message", append(bytes.Clone(signature), 0), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := identity.Verify(row.key, row.context, []byte(row.message), row.signature); got != row.want {
				t.Errorf("verifies: %v", got)
			}
		})
	}
}

// TestWireGuardKeys uses the key pairs of RFC 7748 section 6.1.
func TestWireGuardKeys(t *testing.T) {
	private := [32]byte(unhex(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
	alice, err := identity.WireGuardPrivateFrom(private)
	if err != nil {
		t.Fatal(err)
	}
	public := alice.Public()
	if got := hex.EncodeToString(public[:]); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Errorf("public key %s", got)
	}
	if alice.Bytes() != private {
		t.Error("other private bytes")
	}
	bob := identity.WireGuardKey(unhex(t, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"))
	shared, err := alice.SharedSecret(bob)
	if err != nil || hex.EncodeToString(shared[:]) != "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742" {
		t.Errorf("shared secret %x, %v", shared, err)
	}
	if _, err := alice.SharedSecret(identity.WireGuardKey{}); err == nil {
		t.Error("a key of low order was used")
	}
	if got := bob.String(); got != "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=" {
		t.Errorf("text form %s, want that of wg(8)", got)
	}
	a, errA := identity.NewWireGuardPrivate()
	b, errB := identity.NewWireGuardPrivate()
	if errA != nil || errB != nil || a.Public() == b.Public() || a.Public().IsZero() {
		t.Error("new keys are not new")
	}
}

func TestGenerate(t *testing.T) {
	a, errA := identity.Generate()
	b, errB := identity.Generate()
	if errA != nil || errB != nil || a.ID() == b.ID() {
		t.Error("new identities are not new")
	}
	if !a.Private().Public().(ed25519.PublicKey).Equal(a.Public()) || identity.NodeIDOf(a.Public()) != a.ID() {
		t.Error("the parts do not belong together")
	}
}
