package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	const (
		pass = `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
		skip = `{"Action":"output","Package":"q","Test":"B","Output":"=== RUN   B\n"}
{"Action":"output","Package":"q","Test":"B","Output":"    b_test.go:7: needs root: run it with sudo\n"}
{"Action":"output","Package":"q","Test":"B","Output":"--- SKIP: B (0.00s)\n"}
{"Action":"skip","Package":"q","Test":"B"}
`
		fail = `{"Action":"output","Package":"q","Test":"C","Output":"    c_test.go:9: wrong\n"}
{"Action":"fail","Package":"q","Test":"C"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
`
		broken = `{"ImportPath":"r","Action":"build-output","Output":"r.go:1: undefined: x\n"}
{"ImportPath":"r","Action":"build-fail"}
`
		skippedLine = "  q B: needs root: run it with sudo\n"
	)
	for _, test := range []struct {
		name    string
		in      string
		require bool
		well    bool
		has     string
		hasNot  string
	}{
		{name: "pass", in: pass, well: true, has: "ok  \tp\t0.1s\n", hasNot: "quiet"},
		{name: "pass, required", in: pass, require: true, well: true, has: "ok"},
		{name: "skip", in: pass + skip, well: true, has: skippedLine, hasNot: "RUN"},
		{name: "skip, required", in: pass + skip, require: true, has: skippedLine},
		{name: "only skips", in: skip, has: skippedLine},
		{name: "fail", in: pass + fail, has: "c_test.go:9: wrong\n"},
		{name: "exits within a test", in: strings.Replace(pass+fail, `{"Action":"fail","Package":"q","Test":"C"}`, "", 1), has: "c_test.go:9: wrong\n"},
		{name: "does not build", in: pass + broken, has: "undefined: x"},
		{name: "go complains", in: "go: no packages\n" + pass, has: "go: no packages"},
		{name: "nothing", in: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if well := summarize(strings.NewReader(test.in), &out, test.require); well != test.well {
				t.Errorf("well = %v, want %v", well, test.well)
			}
			if !strings.Contains(out.String(), test.has) {
				t.Errorf("printed %q, want %q in it", out.String(), test.has)
			}
			if test.hasNot != "" && strings.Contains(out.String(), test.hasNot) {
				t.Errorf("printed %q, want no %q in it", out.String(), test.hasNot)
			}
		})
	}
}
