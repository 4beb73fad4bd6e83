package tests

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// typed is a package of ours with the types of all that its files say, without
// those of tests.
type typed struct {
	listed
	types *types.Package
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// finding is what a check has against a place.
type finding struct {
	// file is below the module. It is a package if line is 0; text then has
	// the place.
	file string
	line int
	// what is the short name of what was found, as in lists of exceptions;
	// text says what is wrong with it.
	what, text string
}

// String begins with the place as an editor wants it.
func (f finding) String() string {
	if f.line == 0 {
		return f.text
	}
	return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text)
}

// find notes something at a node.
func (p *typed) find(at ast.Node, what, format string, args ...any) finding {
	place := p.fset.Position(at.Pos())
	return finding{p.name() + "/" + filepath.Base(place.Filename), place.Line, what, fmt.Sprintf(format, args...)}
}

// each visits all nodes of the package.
func (p *typed) each(visit func(ast.Node) bool) {
	for _, f := range p.files {
		ast.Inspect(f, visit)
	}
}

// typedHouse is the house with types, by name, once. Our packages are read from
// source; what they import comes from the build cache.
var typedHouse = sync.OnceValues(func() ([]*typed, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	var packages []*typed
	for _, l := range all {
		if !l.ours() || len(l.GoFiles) == 0 {
			continue
		}
		sources := map[string]string{}
		for _, name := range l.GoFiles {
			text, err := os.ReadFile(filepath.Join(l.Dir, name))
			if err != nil {
				return nil, err
			}
			sources[name] = string(text)
		}
		p, err := typeCheck(l, sources, all)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	slices.SortFunc(packages, func(a, b *typed) int { return cmp.Compare(a.name(), b.name()) })
	return packages, nil
})

// typeCheck reads a package whose files are given by name.
func typeCheck(l listed, sources map[string]string, all map[string]listed) (*typed, error) {
	p := &typed{listed: l, fset: token.NewFileSet(), info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f, err := parser.ParseFile(p.fset, filepath.Join(l.Dir, name), sources[name], parser.ParseComments)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	exports := func(path string) (io.ReadCloser, error) { return os.Open(all[path].Export) }
	config := types.Config{Importer: importer.ForCompiler(p.fset, "gc", exports)}
	var err error
	if p.types, err = config.Check(l.ImportPath, p.fset, p.files, p.info); err != nil {
		return nil, fmt.Errorf("check types of %s: %w", l.name(), err)
	}
	return p, nil
}

// program returns our packages with types, without those of the tests.
func program(t *testing.T) []*typed {
	t.Helper()
	packages, err := typedHouse()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(packages), func(p *typed) bool { return below("tests", p.name()) })
}

// fixture is a package of one file, made for the test of a check.
func fixture(t *testing.T, source string) *typed {
	t.Helper()
	l := listed{ImportPath: module + "/fixture", Module: &struct{ Path string }{module}}
	p, err := typeCheck(l, map[string]string{"fixture.go": source}, house(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exception lets a file do what a check is against, for a reason.
type exception struct {
	file string   // below the module
	uses []string // the findings' what
	why  string
}

// unexcused returns the findings that no exception covers, and one for each
// exception that nothing needs any more.
func unexcused(findings []finding, exceptions []exception) []string {
	var left []string
	needed := map[string]bool{}
	for _, f := range findings {
		excused := slices.ContainsFunc(exceptions, func(e exception) bool {
			return e.file == f.file && slices.Contains(e.uses, f.what)
		})
		if needed[f.file+" "+f.what] = true; !excused {
			left = append(left, f.String())
		}
	}
	for _, e := range exceptions {
		for _, use := range e.uses {
			if !needed[e.file+" "+use] {
				left = append(left, fmt.Sprintf("%s: no %s there any more: take it from the list of exceptions (%s)", e.file, use, e.why))
			}
		}
	}
	return left
}

// report fails the test with each line.
func report(t *testing.T, lines []string) {
	t.Helper()
	for _, line := range lines {
		t.Error(line)
	}
}

// wantFindings fails the test unless the findings are of these names, in the
// order of the file.
func wantFindings(t *testing.T, got []finding, want ...string) {
	t.Helper()
	slices.SortStableFunc(got, func(a, b finding) int { return cmp.Compare(a.line, b.line) })
	var names, lines []string
	for _, f := range got {
		names, lines = append(names, f.what), append(lines, f.String())
	}
	if !slices.Equal(names, want) {
		t.Errorf("found %q, want %q:\n%s", names, want, strings.Join(lines, "\n"))
	}
}
