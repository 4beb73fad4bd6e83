package quicnet

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

func TestHeaderGolden(t *testing.T) {
	got, err := appendHeader(nil, "session")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "header_session.hex"))
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		t.Errorf("header is %x, want %s", got, want)
	}
}

func FuzzHeader(f *testing.F) {
	good, _ := appendHeader(nil, "session")
	f.Add(good)
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		name, err := parseHeader([headerSize]byte(b))
		if err != nil {
			return
		}
		again, err := appendHeader(nil, name)
		if err != nil {
			t.Fatalf("parsed %q, not encodable: %v", name, err)
		}
		if back, err := parseHeader([headerSize]byte(again)); err != nil || back != name {
			t.Fatalf("%q came back as %q, %v", name, back, err)
		}
	})
}

func FuzzRoundName(f *testing.F) {
	for _, s := range []string{"1-1-00000000", "ff-0-01020304", "", "--", "1-2-00000000", "01-1-00000000", "10000000000000000-1-00000000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		round, floor, of, err := parseRoundName(s)
		if err == nil && (roundName(round, floor, of) != s || floor > round) {
			t.Fatalf("%q was taken as %d-%d", s, round, floor)
		}
	})
}

func TestParseRoundName(t *testing.T) {
	round, floor, of, err := parseRoundName("ff-10-0102030a")
	if err != nil || round != 255 || floor != 16 || of != (tag{1, 2, 3, 10}) {
		t.Errorf("%d-%d-%x, %v", round, floor, of, err)
	}
	for _, s := range []string{
		"", "1-0", "1-2-00000000", "01-1-00000000", "A-1-00000000", "+1-1-00000000",
		"1-1-1", "1-1-0000000A", "1-1-0000000g", "g-1-00000000", "1-1-00000000-1",
	} {
		if _, _, _, err := parseRoundName(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestCertificateKnowsNoClock: no date of the system is inside or outside of its
// validity, and tls never asks for the real time.
func TestCertificateKnowsNoClock(t *testing.T) {
	own, err := newInstance()
	if err != nil {
		t.Fatal(err)
	}
	c, err := certificate(identity.FromSeed([32]byte{1}), own)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, year := range []int{1970, 2016, 2100, 9999} {
		at := time.Date(year, 2, 3, 0, 0, 0, 0, time.UTC)
		if at.Before(parsed.NotBefore) || at.After(parsed.NotAfter) {
			t.Errorf("not valid in %d", year)
		}
	}
	if instanceOf(parsed) != own {
		t.Error("the instance is not its serial number")
	}
	a, b := baseTLS(c).Time(), baseTLS(c).Time()
	if !a.Equal(b) || a.Equal(time.Now()) || !baseTLS(c).SessionTicketsDisabled || baseTLS(c).ClientSessionCache != nil {
		t.Error("the TLS configuration depends on the clock")
	}
}

// TestVerifyPeer: the key decides, nothing else.
func TestVerifyPeer(t *testing.T) {
	mine, other := identity.FromSeed([32]byte{1}), identity.FromSeed([32]byte{2})
	leaf := func(id *identity.Identity) *x509.Certificate {
		c, err := certificate(id, instance{0x40})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	dated := leaf(mine)
	dated.NotBefore, dated.NotAfter = time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	keyless := leaf(mine)
	keyless.PublicKey = nil
	rows := []struct {
		name  string
		certs []*x509.Certificate
		ok    bool
	}{
		{"right", []*x509.Certificate{leaf(mine)}, true},
		{"right, dates absurd", []*x509.Certificate{dated}, true},
		{"another's", []*x509.Certificate{leaf(other)}, false},
		{"another's, then ours", []*x509.Certificate{leaf(other), leaf(mine)}, false},
		{"ours, then another's", []*x509.Certificate{leaf(mine), leaf(other)}, false},
		{"no Ed25519 key", []*x509.Certificate{keyless}, false},
		{"none", nil, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			err := verifyPeer(tls.ConnectionState{PeerCertificates: row.certs}, mine.ID())
			if (err == nil) != row.ok {
				t.Errorf("error %v, want none: %v", err, row.ok)
			}
		})
	}
}
