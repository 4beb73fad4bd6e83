package rfc2217_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/rfc2217"
)

// names are those of Telnet's commands in transcripts; all else there is
// decimal numbers and text in quotes.
var names = map[string]byte{
	"SE": 240, "NOP": 241, "DM": 242, "BRK": 243, "IP": 244, "AO": 245, "AYT": 246, "EC": 247, "EL": 248, "GA": 249,
	"SB": 250, "WILL": 251, "WONT": 252, "DO": 253, "DONT": 254, "IAC": 255,
}

// wire returns the bytes of a line of a transcript.
func wire(t testing.TB, text string) []byte {
	t.Helper()
	var b []byte
	for _, word := range strings.Fields(text) {
		if quoted, ok := strings.CutPrefix(word, "'"); ok {
			b = append(b, strings.TrimSuffix(quoted, "'")...)
		} else if c, ok := names[word]; ok {
			b = append(b, c)
		} else if n, err := strconv.ParseUint(word, 10, 8); err == nil {
			b = append(b, byte(n))
		} else {
			t.Fatalf("%q is neither a command nor a byte nor quoted", word)
		}
	}
	return b
}

// describe returns a request as a transcript has it after ">".
func describe(r rfc2217.Request) string {
	switch r.Kind {
	case rfc2217.KindData:
		return "data " + words(r.Data)
	case rfc2217.KindLine:
		return "line " + r.State.Line.String()
	case rfc2217.KindOutputs:
		return "outputs " + r.State.Outputs.String()
	case rfc2217.KindBreak:
		if r.State.Break {
			return "break on"
		}
		return "break off"
	case rfc2217.KindTimedBreak:
		return "timed break"
	case rfc2217.KindPurge:
		return fmt.Sprintf("purge %d", r.Purge)
	case rfc2217.KindSuspend:
		return "suspend"
	case rfc2217.KindResume:
		return "resume"
	case rfc2217.KindMasks:
		return fmt.Sprintf("masks line %d modem %d", r.LineMask, r.ModemMask)
	case rfc2217.KindSignature:
		return "signature " + words([]byte(r.Signature))
	}
	return fmt.Sprintf("kind %d", r.Kind)
}

func words(b []byte) string {
	var out []string
	for len(b) > 0 {
		n := 0
		for n < len(b) && b[n] >= 'a' && b[n] <= 'z' {
			n++
		}
		if n > 0 {
			out = append(out, "'"+string(b[:n])+"'")
			b = b[n:]
			continue
		}
		out = append(out, strconv.Itoa(int(b[0])))
		b = b[1:]
	}
	return strings.Join(out, " ")
}

// feed gives b to m and returns what is asked for.
func feed(m *rfc2217.Machine, b []byte) []string {
	var requests []string
	for len(b) > 0 {
		r, n := m.Next(b)
		b = b[n:]
		if r.Kind != rfc2217.KindNone {
			requests = append(requests, describe(r))
		}
	}
	return requests
}

// joined is requests with data that follow each other made one.
func joined(requests []string) []string {
	var out []string
	for _, r := range requests {
		if last := len(out) - 1; last >= 0 && strings.HasPrefix(r, "data ") && strings.HasPrefix(out[last], "data ") {
			out[last] += strings.TrimPrefix(r, "data")
			continue
		}
		out = append(out, r)
	}
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "' '", "")
	}
	return out
}

// stanza is what the client sends in one go and what is to come of it.
type stanza struct {
	at       int
	client   []byte
	requests []string
	server   []byte
}

func transcript(t testing.TB, file string) []stanza {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stanzas := []stanza{{}}
	for i, row := range strings.Split(string(text), "\n") {
		kind, rest, _ := strings.Cut(row, " ")
		last := &stanzas[len(stanzas)-1]
		switch kind {
		case "C":
			stanzas = append(stanzas, stanza{at: i + 1, client: wire(t, rest)})
		case "S":
			last.server = append(last.server, wire(t, rest)...)
		case ">":
			last.requests = append(last.requests, rest)
		case "", "#":
		default:
			t.Fatalf("%s:%d: a line begins with C, S, > or #", file, i+1)
		}
	}
	return stanzas
}

// TestTranscripts plays every transcript twice: each line of the client at
// once, and byte by byte.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		for _, size := range []int{1 << 16, 1, 3} {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimSuffix(filepath.Base(file), ".txt"), size), func(t *testing.T) {
				m := rfc2217.New(rfc2217.Config{Modem: line.CTS | line.DSR})
				for _, s := range transcript(t, file) {
					var requests []string
					for part := range slices.Chunk(s.client, size) {
						requests = append(requests, feed(m, part)...)
					}
					want := s.requests
					if size != 1<<16 {
						requests, want = joined(requests), joined(want)
					}
					if !slices.Equal(requests, want) {
						t.Errorf("%s:%d: requests %q, want %q", file, s.at, requests, want)
					}
					if got := m.Output(nil); !bytes.Equal(got, s.server) {
						t.Errorf("%s:%d: answers\n%v, want\n%v", file, s.at, got, s.server)
					}
				}
			})
		}
	}
}
