package governor

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const someSmaps = `00400000-00b3f000 r-xp 00000000 fe:00 123   /usr/bin/serial span
Size:               7420 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
00b3f000-0139f000 r--p 0073f000 fe:00 123   /usr/bin/serial span
Anonymous:             0 kB
Swap:                  0 kB
0139f000-013a0000 r--p 00f9f000 fe:00 123   /usr/bin/serial span
Anonymous:             4 kB
Swap:                  0 kB
013a0000-013ff000 rw-p 00fa0000 fe:00 123   /usr/bin/serial span
Anonymous:             0 kB
Swap:                  0 kB
013ff000-03443000 rw-p 00000000 00:00 0
Anonymous:           148 kB
0139f000-013a0000 r--p 00f9f000 fe:00 123   /usr/bin/serial span
Anonymous:             0 kB
Swap:                  4 kB
7f18876fc000-7f1887700000 r--p 00000000 fe:00 124   /usr/lib/other
Anonymous:             0 kB
Swap:                  0 kB
`

func TestCleanSpans(t *testing.T) {
	have, err := cleanSpans(strings.NewReader(someSmaps), "/usr/bin/serial span")
	if want := []span{{0x400000, 0xb3f000}, {0xb3f000, 0x139f000}}; err != nil || !slices.Equal(have, want) {
		t.Errorf("have %x, %v; want %x", have, err, want)
	}
}

// FuzzCleanSpans: nothing but whole lines of the file's own mappings counts.
func FuzzCleanSpans(f *testing.F) {
	f.Add(someSmaps)
	f.Add("1-0 r-xp 0 0 0 /p\nAnonymous: 0 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		spans, _ := cleanSpans(strings.NewReader(text), "/p")
		for _, s := range spans {
			if s.start >= s.end {
				t.Errorf("span %x of %q", s, text)
			}
		}
		if len(spans) > strings.Count(text, "Anonymous:") {
			t.Errorf("%d spans of %q", len(spans), text)
		}
	})
}

// TestForgetProgram: the process has less of its file and goes on.
func TestForgetProgram(t *testing.T) {
	before := fileMemory(t)
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	after := fileMemory(t)
	t.Logf("pages of files: %d kB, then %d kB", before, after)
	if after >= before {
		t.Errorf("%d kB of files are mapped, before it were %d kB", after, before)
	}
}

func fileMemory(t *testing.T) (kilobytes int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	if n, err := fmt.Sscan(rest, &kilobytes); n != 1 || err != nil {
		t.Fatalf("no RssFile in %q: %v", text, err)
	}
	return kilobytes
}
