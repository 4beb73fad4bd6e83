package gossip

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newSealer(t testing.TB, label string, keys ...byte) *sealer {
	t.Helper()
	s := &sealer{label: []byte(label)}
	var all [][32]byte
	for _, k := range keys {
		all = append(all, [32]byte{k})
	}
	if err := s.set(all); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealPacket(t *testing.T) {
	plain := []byte("what memberlist says")
	sealed := newSealer(t, "one", 1).seal(nil, plain, []byte("one"))
	if len(sealed) != len(plain)+sealOverhead {
		t.Errorf("%d bytes more, want %d", len(sealed)-len(plain), sealOverhead)
	}
	for name, row := range map[string]struct {
		s     *sealer
		opens bool
	}{
		"same key":         {newSealer(t, "one", 1), true},
		"an older key too": {newSealer(t, "one", 2, 1), true},
		"other key":        {newSealer(t, "one", 2), false},
		"other label":      {newSealer(t, "two", 1), false},
	} {
		got, err := row.s.open(sealed, row.s.label)
		if (err == nil) != row.opens || row.opens && !bytes.Equal(got, plain) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := newSealer(t, "one", 1).open(changed, []byte("one")); err == nil {
			t.Errorf("opens with byte %d changed", i)
		}
	}
	// The form on the wire; the nonce is random, so it is this that must open.
	text, err := os.ReadFile(filepath.Join("testdata", "sealed.hex"))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newSealer(t, "one", 1).open(wire, []byte("one")); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("golden packet: %q, %v", got, err)
	}
	if err := (&sealer{}).set(nil); err == nil {
		t.Error("no keys were taken")
	}
}

// chunksOf returns what one side of a stream writes.
func chunksOf(t testing.TB, s *sealer, dialed bool, writes ...[]byte) []byte {
	t.Helper()
	var out recorder
	c := newSealedConn(&out, s, dialed)
	for _, w := range writes {
		if n, err := c.Write(w); err != nil || n != len(w) {
			t.Fatalf("wrote %d of %d: %v", n, len(w), err)
		}
	}
	return out.Bytes()
}

// recorder is a net.Conn that keeps what is written and reads it again.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error)  { return r.Buffer.Read(b) }
func (r *recorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }

// readStream reads what the accepting side of a stream is given.
func readStream(s *sealer, chunks []byte) ([]byte, error) {
	var in recorder
	in.Buffer.Write(chunks)
	return io.ReadAll(newSealedConn(&in, s, false))
}

// TestSealStream: a stream arrives whole; chunks that are missing, swapped,
// doubled, sent back or of another cluster end it.
func TestSealStream(t *testing.T) {
	s := newSealer(t, "one", 1)
	big := bytes.Repeat([]byte("0123456789"), maxChunk/5)
	all := chunksOf(t, s, true, []byte("first"), big)
	if got, err := readStream(s, all); err != nil || !bytes.Equal(got, append([]byte("first"), big...)) {
		t.Fatalf("%d bytes arrived, want %d: %v", len(got), 5+len(big), err)
	}
	first := all[:4+5+sealOverhead]
	rest := all[len(first):]
	for name, chunks := range map[string][]byte{
		"first missing":  rest,
		"doubled":        append(bytes.Clone(first), all...),
		"cut":            all[:len(all)-1],
		"sent back":      chunksOf(t, s, false, []byte("first")),
		"other label":    chunksOf(t, newSealer(t, "two", 1), true, []byte("first")),
		"other key":      chunksOf(t, newSealer(t, "one", 2), true, []byte("first")),
		"chunk too long": {0xff, 0xff, 0xff, 0xff},
		"chunk empty":    {0, 0, 0, sealOverhead - 1},
		"a plain stream": []byte("hello, this is not sealed at all, not at all"),
	} {
		if _, err := readStream(s, chunks); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// FuzzSealedStream reads anything: nothing comes out of what is not sealed.
func FuzzSealedStream(f *testing.F) {
	s := newSealer(f, "one", 1)
	f.Add(chunksOf(f, newSealer(f, "one", 2), true, []byte("first")))
	f.Add([]byte{0, 0, 0, 40, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _ := readStream(s, b); len(got) > 0 {
			t.Errorf("%x is read as %x", b, got)
		}
	})
}
