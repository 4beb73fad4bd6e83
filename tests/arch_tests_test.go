package tests

import (
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unleaked are packages that start goroutines and have no TestMain that looks
// for those that were left, and why.
var unleaked = []exception{
	{"mesh/meshtest", []string{"goleak"}, "the tests of mesh are its tests"},
	{"bridge/internal/bridgetest", []string{"goleak"}, "the tests of the bridge's packages are its tests"},
	{"tests/internal/vm/guest", []string{"goleak"}, "process 1 of a virtual machine, which never ends"},
}

// unfuzzed are packages that decode bytes and have no fuzz target, and why.
var unfuzzed = []exception{
	{"mesh", []string{"fuzz"}, "a ping is eight bytes, of which any are fine"},
	{"mesh/internal/underlay", []string{"fuzz"}, "control messages of our own kernel, parsed by x/sys"},
	{"mesh/internal/tunnel", []string{"fuzz"}, "two indices at fixed places of messages whose length was checked; wireguard-go opens them"},
	{"cmd/serialspan/internal/registrysync", []string{"fuzz"}, "a length with a limit, before messages that the registry's targets decode"},
	{"bridge/client", []string{"fuzz"}, "encoding/json reads the local agent's answers"},
	{"cmd/serialspan", []string{"fuzz"}, "encoding/json reads the local agent's answers"},
	{"cmd/serialspan/internal/agent", []string{"fuzz"}, "encoding/json reads our own state files; what is damaged is set aside"},
	{"cmd/serialspan/internal/control", []string{"fuzz"}, "encoding/json reads requests of callers whom the socket's mode lets in"},
}

// golden are the packages with a wire format, and where its bytes are kept: a
// change of them breaks what runs elsewhere.
var golden = map[string]string{
	"mesh/roster":                     "testdata/record.hex",
	"mesh/internal/join":              "testdata/datagrams.hex",
	"mesh/internal/probe":             "testdata/probes.hex",
	"mesh/internal/beacon":            "testdata/beacon.hex",
	"mesh/internal/plane":             "testdata/datagrams.hex",
	"mesh/internal/quicnet":           "testdata/header_session.hex",
	"mesh/internal/gossip":            "testdata/digest.hex",
	"registry":                        "testdata/entry.hex",
	"bridge/session":                  "testdata/open.hex",
	"bridge/capture":                  "testdata/all.hex",
	"bridge/internal/handover":        "testdata/rest.hex",
	"bridge/rfc2217":                  "testdata/commands.txt",
	"cmd/serialspan/internal/control": "testdata/status.json",
}

// testText returns the text of a package's test files, in it and beside it.
func (p *typed) testText(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		source, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text.Write(source)
	}
	return text.String()
}

func TestArchLeaks(t *testing.T) {
	packages, err := typedHouse()
	if err != nil {
		t.Fatal(err)
	}
	var findings []finding
	for _, p := range packages {
		findings = append(findings, leaks(p, p.testText(t))...)
	}
	report(t, unexcused(findings, unleaked))
}

// leaks finds the first place where a package starts a goroutine, if its tests
// do not look for goroutines at their end.
func leaks(p *typed, tests string) []finding {
	if strings.Contains(tests, "goleak.VerifyTestMain(m)") {
		return nil
	}
	var found []finding
	p.each(func(n ast.Node) bool {
		starts := false
		switch n := n.(type) {
		case *ast.GoStmt:
			starts = true
		case *ast.SelectorExpr:
			f, ok := p.info.Uses[n.Sel].(*types.Func)
			starts = ok && slices.Contains([]string{"(*sync.WaitGroup).Go", "(*golang.org/x/sync/errgroup.Group).Go", "time.AfterFunc", "context.AfterFunc"}, f.FullName())
		}
		if starts && found == nil {
			f := p.find(n, "goleak", "the package starts goroutines; its tests have no TestMain with goleak.VerifyTestMain(m)")
			f.text, f.file, f.line = f.String(), p.name(), 0
			found = []finding{f}
		}
		return found == nil
	})
	return found
}

func TestArchFuzz(t *testing.T) {
	var findings []finding
	for _, p := range program(t) {
		findings = append(findings, unfuzzedDecoder(p, p.testText(t))...)
	}
	report(t, unexcused(findings, unfuzzed))
}

var (
	fuzzTarget  = regexp.MustCompile(`(?m)^func Fuzz`)
	decoderName = regexp.MustCompile(`^(Parse|Decode|Unmarshal)`)
	decoderCall = regexp.MustCompile(`^encoding/json\.(Unmarshal|NewDecoder)$|^\(encoding/binary\.\w+\)\.Uint|^encoding/binary\.(Read|Decode|Uvarint|Varint)$|cbor/v2\.(DecMode\)\.|Unmarshal|NewDecoder)|yaml/v3\.(Unmarshal|NewDecoder)`)
)

// unfuzzedDecoder finds the first place where a package decodes bytes or text
// that come from outside, if it has no fuzz target: a call of a library's
// decoder, or an exported Parse, Decode or Unmarshal of its own.
func unfuzzedDecoder(p *typed, tests string) []finding {
	if fuzzTarget.MatchString(tests) {
		return nil
	}
	var found []finding
	note := func(n ast.Node, name string) {
		if found == nil {
			f := p.find(n, "fuzz", "%s: the package decodes and has no fuzz target", name)
			f.text, f.file, f.line = f.String(), p.name(), 0
			found = []finding{f}
		}
	}
	p.each(func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if decoderName.MatchString(n.Name.Name) && n.Name.Name != "UnmarshalText" && n.Name.Name != "UnmarshalJSON" {
				note(n.Name, n.Name.Name)
			}
		case *ast.SelectorExpr:
			if f, ok := p.info.Uses[n.Sel].(*types.Func); ok && decoderCall.MatchString(f.FullName()) {
				note(n, f.FullName())
			}
		}
		return found == nil
	})
	return found
}

func TestArchGolden(t *testing.T) {
	for name, file := range golden {
		if _, err := os.Stat(filepath.Join("..", name, file)); err != nil {
			t.Errorf("%s has a wire format and no golden bytes: %v", name, err)
		}
	}
}

func TestArchTestsBite(t *testing.T) {
	const goes = `package fixture

import "sync"

func run() {
	var all sync.WaitGroup
	all.Go(func() {})
	go run()
}
`
	wantFindings(t, leaks(fixture(t, goes), "package fixture_test"), "goleak")
	wantFindings(t, leaks(fixture(t, goes), "func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }"))
	wantFindings(t, leaks(fixture(t, "package fixture"), ""))

	for _, source := range []string{
		"package fixture\n\nimport \"encoding/binary\"\n\nfunc f(b []byte) uint16 { return binary.BigEndian.Uint16(b) }",
		"package fixture\n\nimport \"encoding/json\"\n\nvar f = json.Unmarshal",
		"package fixture\n\nimport \"github.com/fxamacker/cbor/v2\"\n\nfunc f(m cbor.DecMode, b []byte) error { return m.Unmarshal(b, new(int)) }",
		"package fixture\n\nfunc ParseThing(text string) int { return len(text) }",
	} {
		wantFindings(t, unfuzzedDecoder(fixture(t, source), "package fixture"), "fuzz")
		wantFindings(t, unfuzzedDecoder(fixture(t, source), "func FuzzThing(f *testing.F) {"))
	}
}
