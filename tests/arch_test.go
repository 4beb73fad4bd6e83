package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the path that every import of our own begins with.
const module = "github.com/serialspan/serialspan"

// floors are the packages from the ground up. A package imports packages of
// lower floors only. What is not listed has no place in the house yet: put it
// where it belongs, and DESIGN's picture of the house with it. An entry that
// ends in "/..." covers all below it.
var floors = [][]string{
	{"mesh/identity", "bridge/line", "registry/naming", "mesh/rawio", "mesh/canonical"},                                                                                               // values
	{"mesh/roster", "mesh/keyring", "mesh/removal", "mesh/peering", "mesh/internal/probe", "bridge/session", "bridge/rfc2217", "bridge/profile", "bridge/capture", "bridge/portwire"}, // pure machines
	{"mesh/internal/join", "mesh/internal/admission", "registry"},
	{"mesh/internal/underlay", "mesh/internal/tunnel", "mesh/internal/quicnet", "mesh/internal/gossip", "mesh/kubespan", // adapters
		"mesh/internal/memnet", "mesh/internal/beacon", "bridge/internal/uevent", "bridge/pathwatch", "bridge/internal/port", "bridge/internal/pty", "bridge/internal/handover", "bridge/client",
		"bridge/internal/backoff", "bridge/internal/link", "bridge/internal/slot", "bridge/rule"},
	{"mesh/internal/plane", "mesh/internal/memtunnel", "bridge/internal/inventory", "bridge/use"},
	{"bridge/internal/device", "bridge/remote"},
	{"mesh", "bridge", "bridge/publish", "bridge/attach", "configs/profiles"}, // assemblies
	{"configs"},
	{"mesh/meshtest", "bridge/internal/bridgetest"},
	{"cmd/serialspan/internal/control", "cmd/serialspan/internal/registrysync", "cmd/serialspan/internal/servicemanager", "cmd/serialspan/internal/simstick", "cmd/serialspan/internal/governor", "cmd/serialspan/internal/terminal", "cmd/serialspan/internal/terminal/..."},
	{"cmd/serialspan/internal/agent", "cmd/serialspan/internal/control/..."},
	{"cmd/serialspan"},
	{"tests/internal/..."},
	{"tests", "tests/bench"},
}

// walls forbid what the floors would allow: a package below from may import
// packages below to only as far as they are in except.
var walls = []struct {
	from, to string
	except   []string
}{
	{from: "mesh", to: "bridge"},
	{from: "mesh", to: "registry"},
	{from: "mesh", to: "configs"},
	{from: "bridge", to: "mesh", except: []string{"mesh/identity", "mesh/rawio", "mesh/canonical"}},
	{from: "bridge", to: "configs"},
	// The owner's side and the consumer's meet on the wire only.
	{from: "bridge/publish", to: "bridge/use"},
	{from: "bridge/internal/device", to: "bridge/use"},
	{from: "bridge/attach", to: "bridge/internal/device"},
	{from: "bridge/attach", to: "bridge/internal/slot"},
	{from: "bridge/use", to: "bridge/internal/slot"},
	{from: "bridge/remote", to: "bridge/internal/slot"},
	{from: "registry", to: "mesh", except: []string{"mesh/identity", "mesh/canonical"}},
	{from: "registry", to: "bridge"},
	{from: "configs", to: "mesh", except: []string{"mesh/identity"}},
	{from: "configs", to: "registry", except: []string{"registry/naming"}},
	{from: "cmd", to: "mesh/meshtest"},
	{from: "cmd", to: "tests"},
}

// libraries are the outside modules and who may import them. One importer, so
// that a library can be replaced in one place; those for everyone are "*".
var libraries = map[string][]string{
	"golang.zx2c4.com/wireguard":        {"mesh/internal/tunnel"},
	"golang.zx2c4.com/wireguard/wgctrl": {"mesh/kubespan"},
	"github.com/quic-go/quic-go":        {"mesh/internal/quicnet"},
	"github.com/hashicorp/memberlist":   {"mesh/internal/gossip"},
	"github.com/flynn/noise":            {"mesh/internal/join"},
	// Ports of bridge/client satisfy its interface, which has its types: for
	// these alone, bridge/client opens no port.
	"go.bug.st/serial":                    {"bridge/internal/port", "bridge/client"},
	"github.com/spf13/viper":              {"configs"},
	"github.com/go-viper/mapstructure/v2": {"configs"},
	"go.yaml.in/yaml/v3":                  {"configs", "configs/profiles"},
	"github.com/spf13/cobra":              {"cmd/serialspan"},
	"github.com/fxamacker/cbor/v2":        {"*"},
	"golang.org/x/crypto":                 {"*"},
	"golang.org/x/sync":                   {"*"},
	"golang.org/x/sys":                    {"*"},
	"golang.org/x/term":                   {"cmd/serialspan"},
}

// pure packages are machines: bytes and time in, bytes and decisions out.
var pure = []string{"mesh/roster", "mesh/keyring", "mesh/removal", "mesh/peering", "mesh/internal/join", "mesh/internal/admission", "mesh/internal/probe", "bridge/line", "bridge/session", "bridge/rfc2217", "bridge/profile", "bridge/capture", "bridge/portwire"}

// impure is what a pure package imports none of.
var impure = []string{"net", "os", "os/exec", "syscall", "log", "log/slog", "golang.org/x/sys/unix"}

// ttyPackages are the only ones that make ioctls on terminals.
var ttyPackages = []string{"bridge/internal/port", "bridge/internal/pty", "cmd/serialspan/internal/...", "tests/internal/..."}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath   string
	Dir          string
	Export       string // the file of its types
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	Standard     bool
	Module       *struct{ Path string }
}

// name returns the path below the module, as in floors; "." for its root.
func (p listed) name() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func (p listed) ours() bool { return p.Module != nil && p.Module.Path == module }

// list asks go for the house, once.
var list = sync.OnceValues(func() (map[string]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles,TestGoFiles,XTestGoFiles,Imports,Standard,Module", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("go list: %w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	all := map[string]listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all[p.ImportPath] = p
	}
})

// house returns all packages that the program and its tests depend on, by
// import path.
func house(t *testing.T) map[string]listed {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// covers reports whether pattern is name or ends in "/..." and is above it.
func covers(pattern, name string) bool {
	above, all := strings.CutSuffix(pattern, "...")
	return pattern == name || all && strings.HasPrefix(name, above)
}

func anyCovers(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return p == "*" || covers(p, name) })
}

// below reports whether name is top or in a folder of it.
func below(top, name string) bool { return name == top || strings.HasPrefix(name, top+"/") }

func floorOf(name string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return anyCovers(f, name) })
}

func TestArchImports(t *testing.T) {
	all := house(t)
	for _, p := range all {
		if !p.ours() {
			continue
		}
		floor := floorOf(p.name())
		if floor < 0 {
			t.Errorf("%s has no floor in arch_test.go", p.name())
			continue
		}
		for _, path := range p.Imports {
			to, known := all[path]
			switch {
			case !known || to.Standard:
			case to.ours():
				if err := edge(p.name(), to.name(), floor); err != nil {
					t.Error(err)
				}
			default:
				importers, known := libraries[to.Module.Path]
				if !known {
					t.Errorf("%s imports %s, which is in no list of arch_test.go: a library has one named importer", p.name(), path)
				} else if !anyCovers(importers, p.name()) && !below("tests", p.name()) {
					t.Errorf("%s imports %s, which only %s may", p.name(), path, strings.Join(importers, ", "))
				}
			}
		}
	}
}

func edge(from, to string, floor int) error {
	const labs = "tests/internal" // they may use each other
	if floorOf(to) >= floor && !(below(labs, from) && below(labs, to)) {
		return fmt.Errorf("%s imports %s, which is not on a lower floor", from, to)
	}
	for _, w := range walls {
		if below(w.from, from) && below(w.to, to) && !slices.Contains(w.except, to) {
			return fmt.Errorf("%s imports %s: %s knows nothing of %s", from, to, w.from, w.to)
		}
	}
	return nil
}

func TestArchPure(t *testing.T) {
	for _, p := range house(t) {
		if !p.ours() || !slices.Contains(pure, p.name()) {
			continue
		}
		for _, path := range p.Imports {
			if slices.Contains(impure, path) {
				t.Errorf("%s is pure and imports %s", p.name(), path)
			}
		}
		eachFile(t, p, func(fset *token.FileSet, file *ast.File) {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a pure package starts a goroutine", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "AfterFunc", "Tick"}, n.Sel.Name) {
						t.Errorf("%s: a pure package calls time.%s: let the caller pass the time in", fset.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		})
	}
}

func TestArchTTY(t *testing.T) {
	for _, p := range house(t) {
		if !p.ours() || anyCovers(ttyPackages, p.name()) {
			continue
		}
		eachFile(t, p, func(fset *token.FileSet, file *ast.File) {
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := s.X.(*ast.Ident)
				if ok && x.Name == "unix" && (strings.HasPrefix(s.Sel.Name, "TIOC") || strings.HasPrefix(s.Sel.Name, "TCGET") || strings.HasPrefix(s.Sel.Name, "TCSET")) {
					t.Errorf("%s: unix.%s: terminals belong to %s", fset.Position(s.Pos()), s.Sel.Name, strings.Join(ttyPackages, ", "))
				}
				return true
			})
		})
	}
}

func TestArchDocumented(t *testing.T) {
	for _, p := range house(t) {
		if !p.ours() {
			continue
		}
		if slices.Contains([]string{"util", "helpers", "common", "types", "misc"}, filepath.Base(p.ImportPath)) {
			t.Errorf("%s: the name says nothing", p.name())
		}
		var comments []string
		eachFile(t, p, func(fset *token.FileSet, file *ast.File) {
			if file.Doc != nil {
				comments = append(comments, fset.Position(file.Package).Filename)
				want := "Package " + file.Name.Name
				if file.Name.Name == "main" {
					want = "Command " + filepath.Base(p.ImportPath)
				}
				if first, _, _ := strings.Cut(file.Doc.Text(), "\n"); !strings.HasPrefix(first, want) {
					t.Errorf("%s: the package comment begins %q, not %q", fset.Position(file.Package), first, want)
				}
			}
			for _, name := range undocumented(file) {
				t.Errorf("%s: %s is exported and has no comment", fset.Position(name.Pos()), name.Name)
			}
		})
		if len(p.GoFiles) > 0 && len(comments) != 1 {
			t.Errorf("%s has %d package comments, want one: %v", p.name(), len(comments), comments)
		}
	}
}

// undocumented returns the exported names of a file that have no comment. For
// constants and variables that of their group will do.
func undocumented(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	note := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		// The contract of these two is errors'.
		if name.Name == "Error" || name.Name == "Unwrap" {
			return
		}
		if name.IsExported() && !slices.ContainsFunc(comments, func(c *ast.CommentGroup) bool { return c != nil }) {
			names = append(names, name)
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || receiver(d.Recv.List[0].Type).IsExported() {
				note(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					note(s.Name, s.Doc, d.Doc, s.Comment)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						note(name, s.Doc, d.Doc, s.Comment)
					}
				}
			}
		}
	}
	return names
}

// receiver returns the type's name of a method's receiver: of *T, T[P], *T[P].
func receiver(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e
	}
	return ast.NewIdent("_")
}

// eachFile parses the files of a package that are no tests.
func eachFile(t *testing.T, p listed, visit func(*token.FileSet, *ast.File)) {
	t.Helper()
	for _, name := range p.GoFiles {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		visit(fset, file)
	}
}
