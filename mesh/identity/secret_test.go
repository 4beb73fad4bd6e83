package identity_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

func newSecret(t testing.TB) identity.Secret {
	t.Helper()
	s, err := identity.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretRoundTrip(t *testing.T) {
	s := newSecret(t)
	if s.KeyNumber != 1 || s == newSecret(t) {
		t.Error("a new secret is not new")
	}
	for _, text := range []string{s.Text(), "\t" + s.Text() + " \r\n", strings.ToUpper(s.Text())} {
		if got, err := identity.ParseSecret(text); err != nil || got != s {
			t.Errorf("parse: %v, the same: %v", err, got == s)
		}
	}
	if n := len(s.Text()); n != 94 {
		t.Errorf("%d characters, want 94", n)
	}
}

func TestSecretsDiffer(t *testing.T) {
	key := [32]byte{1}
	s := identity.SecretOf(identity.ClusterID{1}, 1, key)
	same := identity.SecretOf(identity.ClusterID{1}, 1, key)
	if s != same || s.Fingerprint() != same.Fingerprint() {
		t.Error("equal secrets differ")
	}
	if s.JoinKey() == s.GossipKey() {
		t.Error("join key and gossip key are the same")
	}
	for name, other := range map[string]identity.Secret{
		"cluster":    identity.SecretOf(identity.ClusterID{2}, 1, key),
		"key number": identity.SecretOf(identity.ClusterID{1}, 2, key),
		"key":        identity.SecretOf(identity.ClusterID{1}, 1, [32]byte{2}),
	} {
		if s == other || s.Fingerprint() == other.Fingerprint() || s.Text() == other.Text() {
			t.Errorf("another %s is not told apart", name)
		}
		if name != "key number" && (s.JoinKey() == other.JoinKey() || s.GossipKey() == other.GossipKey()) {
			t.Errorf("another %s derives the same keys", name)
		}
	}
	var zero identity.Secret
	if got, err := identity.ParseSecret(zero.Text()); err != nil || got.Text() != zero.Text() {
		t.Errorf("the zero secret: %v", err)
	}
}

func TestParseSecretRefuses(t *testing.T) {
	text := newSecret(t).Text()
	swapped := []byte(text)
	i := 10
	for swapped[i] == swapped[i+1] {
		i++
	}
	swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
	for name, bad := range map[string]string{
		"empty":             "",
		"prefix only":       "ssp1",
		"another version":   "ssp2" + text[4:],
		"a character less":  text[:93],
		"a character more":  text + "a",
		"two swapped":       string(swapped),
		"digit 0":           text[:50] + "0" + text[51:],
		"a line break":      text[:50] + "\n" + text[51:],
		"many line breaks":  text[:50] + strings.Repeat("\n", 44),
		"only line breaks":  "ssp1" + strings.Repeat("\r\n", 45) + "a",
		"padding":           text[:93] + "=",
		"a space":           text[:50] + " " + text[51:],
		"letters of others": text[:50] + "é" + text[52:],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := identity.ParseSecret(bad)
			if !errors.Is(err, identity.ErrSecret) {
				t.Fatalf("%v, want ErrSecret", err)
			}
			if len(bad) > 40 && strings.Contains(err.Error(), bad[10:30]) {
				t.Error("the error quotes the secret")
			}
		})
	}
	for i := range len(text) {
		for _, c := range "a7" {
			bad := text[:i] + string(c) + text[i+1:]
			if bad == text {
				continue
			}
			if _, err := identity.ParseSecret(bad); err == nil {
				t.Fatalf("character %d mistyped: accepted", i)
			}
		}
	}
}

// TestNeverPrinted formats everything that holds a key in every way it may end
// up in a log.
func TestNeverPrinted(t *testing.T) {
	key := [32]byte(bytes.Repeat([]byte{0xd3}, 32)) // 211
	secret := identity.SecretOf(identity.ClusterID{1}, 1, key)
	id := identity.FromSeed(key)
	wireGuard, err := identity.WireGuardPrivateFrom(key)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Open   identity.Secret
		hidden identity.Secret
		Ptr    *identity.Secret
		ptr    *identity.Secret
		ID     *identity.Identity
		id     identity.Identity
		WG     identity.WireGuardPrivate
		wg     identity.WireGuardPrivate
		any    any
	}
	h := holder{secret, secret, &secret, &secret, id, *id, wireGuard, wireGuard, secret}
	leaks := []string{
		"211 211", "211, 211", "uint8=211", "d3d3", "D3D3", "d3 d3", "d3, 0xd3", "323 323", "11010011 11010011",
		`\xd3\xd3`, "\xd3\xd3", "Ó Ó", "09PT0", secret.Text()[40:50],
	}
	check := func(how, text string) {
		t.Helper()
		for _, leak := range leaks {
			if strings.Contains(text, leak) {
				t.Errorf("%s prints the key: %s", how, text)
			}
		}
	}
	for _, v := range []any{
		secret, &secret, id, *id, wireGuard, &wireGuard, h, &h, []identity.Secret{secret}, []any{secret, id, wireGuard},
		map[string]identity.Secret{"a": secret}, struct{ s []holder }{[]holder{h}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%t", "%p"} {
			check(fmt.Sprintf("%s of %T", verb, v), fmt.Sprintf(verb, v))
		}
		check(fmt.Sprintf("Sprint of %T", v), fmt.Sprint(v))
		if data, err := json.Marshal(v); err == nil {
			check(fmt.Sprintf("JSON of %T", v), string(data))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "v", v)
		check(fmt.Sprintf("slog of %T", v), log.String())
	}
	if got := secret.String(); !strings.Contains(got, secret.Fingerprint()) {
		t.Errorf("%q does not name the secret", got)
	}
}

// FuzzParseSecret: what parses has one text form, and no input panics.
func FuzzParseSecret(f *testing.F) {
	s := identity.SecretOf(identity.ClusterID{1, 2}, 3, [32]byte{4})
	f.Add(s.Text())
	f.Add(" " + strings.ToUpper(s.Text()) + "\n")
	f.Add("ssp1" + strings.Repeat("\n", 90))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := identity.ParseSecret(text)
		if err != nil {
			if !errors.Is(err, identity.ErrSecret) || s != (identity.Secret{}) {
				t.Fatalf("%v", err)
			}
			return
		}
		if s.Text() != strings.ToLower(strings.TrimSpace(text)) {
			t.Fatalf("%q is another text form of a secret", text)
		}
	})
}

// FuzzParseNodeID: what parses has one text form but for its case.
func FuzzParseNodeID(f *testing.F) {
	f.Add(identity.NodeID{1, 2, 3}.String())
	f.Add(strings.Repeat("\n", 26))
	f.Fuzz(func(t *testing.T, text string) {
		id, err := identity.ParseNodeID(text)
		if err == nil && id.String() != strings.ToLower(text) || err != nil && !errors.Is(err, identity.ErrNodeID) {
			t.Fatalf("parse %q: %v, %v", text, id, err)
		}
	})
}
