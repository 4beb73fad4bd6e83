package rfc2217_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rfc2217"
)

// encode is a client's side: data with IAC doubled, and CR NUL where BINARY
// is not agreed.
func encode(p []byte, binary bool) []byte {
	var out []byte
	for _, b := range p {
		out = append(out, b)
		switch {
		case b == 255:
			out = append(out, b)
		case b == '\r' && !binary:
			out = append(out, 0)
		}
	}
	return out
}

// decode is a client's side for what AppendData makes.
func decode(p []byte, binary bool) []byte {
	var out []byte
	for i := 0; i < len(p); i++ {
		out = append(out, p[i])
		if i+1 < len(p) && (p[i] == 255 || !binary && p[i] == '\r' && p[i+1] == 0) {
			i++
		}
	}
	return out
}

func binaryMachine(t testing.TB, binary bool) *rfc2217.Machine {
	m := rfc2217.New(rfc2217.Config{})
	if binary {
		feed(m, wire(t, "IAC DO 0 IAC WILL 0"))
	}
	m.Output(nil)
	return m
}

// FuzzData: data comes out as it went in, both ways, however it is cut, and
// nothing is answered.
func FuzzData(f *testing.F) {
	f.Add([]byte("hello\r\n\r\x00\xff\xff\xf0\xff"), 3, true)
	f.Add([]byte("\r\r\n\xff\r\x00\x00"), 1, false)
	f.Fuzz(func(t *testing.T, data []byte, cut int, binary bool) {
		m := binaryMachine(t, binary)
		sent := encode(data, binary)
		at := 0
		if len(sent) > 0 {
			at = int(uint(cut) % uint(len(sent)))
		}
		var got []byte
		for _, part := range [][]byte{sent[:at], sent[at:]} {
			for len(part) > 0 {
				r, n := m.Next(part)
				if n <= 0 {
					t.Fatal("no progress")
				}
				part = part[n:]
				got = append(got, r.Data...)
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("received %q, sent %q", got, data)
		}
		if out := m.Output(nil); len(out) > 0 {
			t.Fatalf("data is answered with %v", out)
		}
		if len(data) > 0 {
			at = int(uint(cut) % uint(len(data)))
		}
		wireData := m.AppendData(m.AppendData(nil, data[:at]), data[at:])
		if back := decode(wireData, binary); !bytes.Equal(back, data) {
			t.Fatalf("the client receives %q of %q", back, data)
		}
		if len(wireData) > 2*len(data) {
			t.Fatalf("%d bytes become %d", len(data), len(wireData))
		}
	})
}

// FuzzNext: no panic, always progress, bounded answers that are whole
// sequences, settings that are always valid, and the same result however the
// bytes are cut.
func FuzzNext(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		var all []byte
		for _, s := range transcript(f, file) {
			all = append(all, s.client...)
		}
		f.Add(all, 7)
	}
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		whole, parts := rfc2217.New(rfc2217.Config{Modem: line.CTS}), rfc2217.New(rfc2217.Config{Modem: line.CTS})
		opening := len(whole.Output(nil))
		parts.Output(nil)
		var requests []string
		for rest := p; len(rest) > 0; {
			r, n := whole.Next(rest)
			if n <= 0 || n > len(rest) {
				t.Fatalf("took %d of %d", n, len(rest))
			}
			rest = rest[n:]
			if err := r.State.Line.Check(); err != nil || r.State != whole.State() {
				t.Fatalf("state %+v: %v", r.State, err)
			}
			if r.Kind != rfc2217.KindNone {
				requests = append(requests, describe(r))
			}
		}
		out := whole.Output(nil)
		if len(out) > 8*len(p)+opening {
			t.Fatalf("%d bytes are answered with %d", len(p), len(out))
		}
		sequences(t, out)
		at := 0
		if len(p) > 0 {
			at = int(uint(cut) % uint(len(p)))
		}
		again := append(feed(parts, p[:at]), feed(parts, p[at:])...)
		a, b := joined(requests), joined(again)
		if len(a) != len(b) {
			t.Fatalf("requests %q, cut at %d %q", a, at, b)
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("request %q, cut at %d %q", a[i], at, b[i])
			}
		}
		if got := parts.Output(nil); !bytes.Equal(got, out) {
			t.Fatalf("answers %v, cut at %d %v", out, at, got)
		}
	})
}

// sequences checks that out is whole Telnet sequences and no data, by a
// client's eyes.
func sequences(t *testing.T, out []byte) {
	t.Helper()
	for rest := out; len(rest) > 0; {
		switch {
		case len(rest) >= 2 && rest[0] == 255 && rest[1] == 241:
			rest = rest[2:]
		case len(rest) >= 3 && rest[0] == 255 && rest[1] >= 251 && rest[1] <= 254:
			rest = rest[3:]
		case len(rest) >= 6 && rest[0] == 255 && rest[1] == 250 && rest[2] == 44 && rest[3] >= 100:
			end := 4
			for end+1 < len(rest) && !(rest[end] == 255 && rest[end+1] == 240) {
				if rest[end] == 255 {
					end++
				}
				end++
			}
			if end+1 >= len(rest) {
				t.Fatalf("no end of %v", rest)
			}
			rest = rest[end+2:]
		default:
			t.Fatalf("data among answers: %v", rest)
		}
	}
}
