package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const well = `ok  	example.net/a	0.1s	coverage: 81.2% of statements
ok  	example.net/b	0.1s	coverage: [no statements]
?   	example.net/c	[no test files]
	example.net/d		coverage: 0.0% of statements
`
	const failed = `--- FAIL: TestX (0.00s)
FAIL
coverage: 12.0% of statements
FAIL	example.net/e	0.1s
`
	for _, test := range []struct {
		name, in string
		covered  map[string]string
		well     bool
		printed  string
	}{
		{"well", well, map[string]string{"example.net/a": "81.2%", "example.net/b": "-", "example.net/c": "-", "example.net/d": "-"}, true, ""},
		{"failed", failed, map[string]string{"example.net/e": "FAIL"}, false, "--- FAIL: TestX (0.00s)\nFAIL\nFAIL\texample.net/e\t0.1s\n"},
		{"nothing", "", map[string]string{}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			covered, well := read(strings.NewReader(test.in), &out)
			if well != test.well || out.String() != test.printed {
				t.Errorf("well is %v, printed %q; want %v, %q", well, out.String(), test.well, test.printed)
			}
			if len(covered) != len(test.covered) {
				t.Errorf("covered is %v, want %v", covered, test.covered)
			}
			for path, want := range test.covered {
				if covered[path] != want {
					t.Errorf("%s is covered %q, want %q", path, covered[path], want)
				}
			}
		})
	}
}

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.go")
	const source = `package a

const A, b = 1, 2

type C struct{}

func (C) Method() {}

func D() {}
`
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	lines, exported, err := count(path)
	if lines != 9 || exported != 3 || err != nil {
		t.Errorf("counted %d lines, %d exported names, %v; want 9, 3", lines, exported, err)
	}
	var out strings.Builder
	table(&out, []row{{"a", 9, 3, 20, "81.2%"}, {"b", 1, 0, 0, "-"}})
	const want = `  lines  exported  test lines  covered  package
      9         3          20    81.2%  a
      1         0           0        -  b
     10         3          20           all
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s, want\n%s", got, want)
	}
}
