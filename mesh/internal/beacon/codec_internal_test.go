package beacon

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// goldenKey is the beacon key of identity's golden cluster secret.
const goldenKey = "b1588ef7b67c88c71237278c9bed293540c01fa40349f053b3609cad3963ff44"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden returns a beacon that another implementation sealed, after doc.go.
func golden(t testing.TB) (key [32]byte, datagram []byte, h Hello) {
	t.Helper()
	text, err := os.ReadFile("testdata/beacon.hex")
	if err != nil {
		t.Fatal(err)
	}
	h.Port = 51821
	for i := range h.Start {
		h.Start[i] = 0xa0 + byte(i)
	}
	return [32]byte(unhex(t, goldenKey)), unhex(t, string(text)), h
}

func TestGolden(t *testing.T) {
	key, want, h := golden(t)
	var nonce [chacha20poly1305.NonceSizeX]byte
	for i := range nonce {
		nonce[i] = 0x40 + byte(i)
	}
	if got, err := seal(key, nonce, h); err != nil || !bytes.Equal(got, want) {
		t.Errorf("sealed %x, %v; want %x", got, err, want)
	}
	if got, err := Open(key, want); err != nil || got != h {
		t.Errorf("opened %+v, %v; want %+v", got, err, h)
	}
}

func TestOpenRefuses(t *testing.T) {
	key, datagram, h := golden(t)
	for i := range datagram {
		bad := bytes.Clone(datagram)
		bad[i] ^= 1
		if _, err := Open(key, bad); !errors.Is(err, ErrForeign) {
			t.Fatalf("byte %d changed: %v, want ErrForeign", i, err)
		}
	}
	if _, err := Open([32]byte{1}, datagram); !errors.Is(err, ErrForeign) {
		t.Errorf("another key: %v, want ErrForeign", err)
	}
	for _, bad := range [][]byte{nil, datagram[1:], append(bytes.Clone(datagram), 0)} {
		if _, err := Open(key, bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v, want ErrMalformed", len(bad), err)
		}
	}
	noPort, err := Seal(key, Hello{Start: h.Start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(key, noPort); !errors.Is(err, ErrMalformed) {
		t.Errorf("port 0: %v, want ErrMalformed", err)
	}
}

// sealBody seals any 32 bytes.
func sealBody(t testing.TB, key [32]byte, body [bodyLen]byte) []byte {
	t.Helper()
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, Len)
	return aead.Seal(nonce, nonce, body[:], []byte(extraData))
}

func TestVersions(t *testing.T) {
	key := [32]byte{7}
	later := [bodyLen]byte{0: 2, 2: 1, 3: 1}
	if _, err := Open(key, sealBody(t, key, later)); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v, want ErrVersion", err)
	}
	grown := [bodyLen]byte{0: 1, 1: 0xff, 2: 1, 3: 1, 4: 9, 20: 1, 31: 1}
	if h, err := Open(key, sealBody(t, key, grown)); err != nil || h != (Hello{Port: 257, Start: Start{9}}) {
		t.Errorf("version 1 with more in it: %+v, %v", h, err)
	}
}

func TestSealNeverRepeats(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		b, err := Seal([32]byte{1}, Hello{Port: 1})
		if err != nil || len(b) != Len {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		for _, part := range []string{string(b[:24]), string(b[24:56]), string(b[56:])} {
			if seen[part] {
				t.Fatal("a part of a beacon repeats: an outsider can tell who sent it")
			}
			seen[part] = true
		}
	}
}

// FuzzOpen: no panic; what opens was sealed with the key.
func FuzzOpen(f *testing.F) {
	key, datagram, _ := golden(f)
	f.Add(datagram, false)
	f.Add(datagram[24:56], true)
	f.Add([]byte{1, 0, 0, 1}, true)
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		if inside { // b is what a holder of the key sealed
			var body [bodyLen]byte
			copy(body[:], b)
			h, err := Open(key, sealBody(t, key, body))
			if (err == nil) != (body[0] == version && h.Port != 0) || err != nil && h != (Hello{}) {
				t.Fatalf("%x: %+v, %v", body, h, err)
			}
			return
		}
		if h, err := Open(key, b); err == nil && !bytes.Equal(b, datagram) {
			t.Fatalf("%x opens: %+v", b, h)
		}
	})
}
