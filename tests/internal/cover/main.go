// Command cover reads the output of `go test -cover` on standard input and
// prints a table with a line for each package in it: lines of code, names it
// exports, lines of tests, and the share of statements that its own tests run.
// Lines are those of the files, comments too. Exported names are those at the
// top level: a method belongs to its type.
//
// Whatever else go test says, failures above all, is printed as it comes. It
// exits with 1 if anything failed.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	covered, well := read(os.Stdin, os.Stdout)
	rows, err := measure(covered)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	table(os.Stdout, rows)
	if !well || len(rows) == 0 {
		os.Exit(1)
	}
}

// row is a package in the table.
type row struct {
	name                     string
	lines, exported, testing int
	coverage                 string // "81.2%", "-" for none, or "FAIL"
}

// outcome is how go test begins a line about a package: ok, FAIL, ? or nothing.
var outcome = regexp.MustCompile(`^(ok|FAIL|\?|)\s*\t(\S+)(?:\s|$)`)

// share is the coverage in such a line.
var share = regexp.MustCompile(`coverage: ([0-9.]+%) of statements`)

// read returns the coverage by import path, copies to out what is no line about
// a package that is well, and says whether all was.
func read(in io.Reader, out io.Writer) (covered map[string]string, well bool) {
	covered, well = map[string]string{}, true
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		m := outcome.FindStringSubmatch(line)
		switch {
		case m != nil && m[1] == "FAIL":
			covered[m[2]], well = "FAIL", false
			fmt.Fprintln(out, line)
		case m != nil:
			covered[m[2]] = "-"
			if s := share.FindStringSubmatch(line); s != nil && m[1] == "ok" {
				covered[m[2]] = s[1]
			}
		case line == "PASS" || strings.HasPrefix(line, "coverage: "): // of a package alone
		default:
			if strings.HasPrefix(line, "FAIL") {
				well = false
			}
			fmt.Fprintln(out, line)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, err)
		well = false
	}
	return covered, well
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir                    string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Module                             *struct{ Path string }
}

// measure returns a row for each package, by name.
func measure(covered map[string]string) ([]row, error) {
	if len(covered) == 0 {
		return nil, nil
	}
	arguments := []string{"list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Module"}
	for path := range covered {
		arguments = append(arguments, path)
	}
	text, err := exec.Command("go", arguments...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var rows []row
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		r := row{name: p.ImportPath, coverage: covered[p.ImportPath]}
		if p.Module != nil {
			r.name = strings.TrimPrefix(p.ImportPath, p.Module.Path+"/")
		}
		for _, name := range p.GoFiles {
			lines, exported, err := count(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			r.lines, r.exported = r.lines+lines, r.exported+exported
		}
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			lines, _, err := count(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			r.testing += lines
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.name, b.name) })
	return rows, nil
}

// count returns the lines of a file and how many names it exports.
func count(path string) (lines, exported int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, err
	}
	note := func(name *ast.Ident) {
		if name.IsExported() {
			exported++
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				note(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					note(s.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						note(name)
					}
				}
			}
		}
	}
	return bytes.Count(text, []byte("\n")), exported, nil
}

// table writes the table and the sums.
func table(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "lines\texported\ttest lines\tcovered\t  package")
	line := func(r row) {
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t  %s\n", r.lines, r.exported, r.testing, r.coverage, r.name)
	}
	sum := row{name: "all"}
	for _, r := range rows {
		line(r)
		sum.lines, sum.exported, sum.testing = sum.lines+r.lines, sum.exported+r.exported, sum.testing+r.testing
	}
	line(sum)
	w.Flush()
}
