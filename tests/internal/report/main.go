// Command report reads the output of `go test -json` on standard input and
// prints what go test prints without -v: a line per package, and the output of
// failed tests. At the end it lists what was skipped and why.
//
// It exits with 1 if anything failed, if a build or go itself failed, if no
// test ran, or, with SERIALSPAN_TEST_REQUIRE=1 in the environment, if any test
// was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json` and, for the
// build-… actions, `go help buildjson`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

func main() {
	require := os.Getenv("SERIALSPAN_TEST_REQUIRE") == "1"
	if !summarize(os.Stdin, os.Stdout, require) {
		os.Exit(1)
	}
}

// report is what was seen so far.
type report struct {
	out     io.Writer
	pending map[string]*strings.Builder // output of tests that have not ended, by package and test
	skipped []string
	passed  int
	failed  int // tests and packages
	strange bool
}

// summarize copies events from in to out as described above and returns whether
// all is well.
func summarize(in io.Reader, out io.Writer, require bool) bool {
	r := &report{out: out, pending: map[string]*strings.Builder{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// go's own complaints, "go: no such tool", are no JSON.
			r.strange = true
			fmt.Fprintln(out, lines.Text())
			continue
		}
		r.handle(e)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(out, "read test output: %v\n", err)
		r.strange = true
	}
	r.printSkipped(require)
	return !r.strange && r.failed == 0 && r.passed > 0 && (!require || len(r.skipped) == 0)
}

func (r *report) handle(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output(key, e)
	case "pass", "fail", "skip":
		if e.Test == "" {
			if e.Action == "fail" {
				r.failed++
				r.printUnended(e.Package)
			}
			return
		}
		r.ended(e, r.text(key))
		delete(r.pending, key)
	case "build-fail":
		r.failed++
	}
}

func (r *report) output(key string, e event) {
	if e.Test == "" {
		if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "-test.shuffle ") {
			fmt.Fprint(r.out, e.Output)
		}
		return
	}
	if r.pending[key] == nil {
		r.pending[key] = &strings.Builder{}
	}
	r.pending[key].WriteString(e.Output)
}

func (r *report) text(key string) string {
	if b := r.pending[key]; b != nil {
		return b.String()
	}
	return ""
}

func (r *report) ended(e event, text string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, text)
	case "skip":
		r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text)))
	}
}

// printUnended prints what tests of a failed package said that never ended: it
// was killed or left with os.Exit.
func (r *report) printUnended(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.pending)) {
		if strings.HasPrefix(key, pkg+"\x00") {
			fmt.Fprint(r.out, r.text(key))
			delete(r.pending, key)
		}
	}
}

// reason takes what a test said when it skipped out of its output, without the
// file and line before it.
func reason(text string) string {
	var said []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			continue
		}
		if _, after, found := strings.Cut(strings.TrimSpace(line), ".go:"); found {
			if _, message, found := strings.Cut(after, ": "); found {
				line = message
			}
		}
		said = append(said, strings.TrimSpace(line))
	}
	return strings.Join(said, " ")
}

func (r *report) printSkipped(require bool) {
	if len(r.skipped) == 0 {
		return
	}
	fmt.Fprintf(r.out, "\nSkipped here (%d):\n", len(r.skipped))
	for _, s := range r.skipped {
		fmt.Fprintln(r.out, "  "+s)
	}
	if require {
		fmt.Fprintln(r.out, "FAIL: SERIALSPAN_TEST_REQUIRE=1 allows no skip")
	}
}
