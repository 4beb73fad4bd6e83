package tests

import (
	"go/ast"
	"slices"
	"testing"
)

// The guides of STYLE section 2, in lines of code that is no test.
const (
	fileLines    = 400
	funcLines    = 80
	runLoopLines = 120
)

// shapes are the files and functions that are larger, and why.
var shapes []exception

func TestArchShape(t *testing.T) {
	packages, err := typedHouse()
	if err != nil {
		t.Fatal(err)
	}
	var findings []finding
	for _, p := range packages {
		findings = append(findings, shape(p, fileLines, funcLines, runLoopLines)...)
	}
	report(t, unexcused(findings, shapes))
}

// shape finds files and functions with more lines than allowed. A run loop is a
// function that is named run or Run.
func shape(p *typed, file, function, runLoop int) []finding {
	var found []finding
	for _, f := range p.files {
		if n := p.fset.Position(f.FileEnd).Line; n > file {
			found = append(found, p.find(f, "file", "file has %d lines, the guide says %d", n, file))
		}
		for _, d := range f.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			most := function
			if slices.Contains([]string{"run", "Run"}, d.Name.Name) {
				most = runLoop
			}
			if n := p.fset.Position(d.End()).Line - p.fset.Position(d.Pos()).Line + 1; n > most {
				found = append(found, p.find(d, d.Name.Name, "%s has %d lines, the guide says %d", d.Name.Name, n, most))
			}
		}
	}
	return found
}

func TestArchShapeBites(t *testing.T) {
	source := `package fixture

func small() {}

func large() {
	small()
}

func run() {
	small()
}
`
	wantFindings(t, shape(fixture(t, source), 100, 2, 3), "large")
	wantFindings(t, shape(fixture(t, source), 9, 3, 3), "file")
}
