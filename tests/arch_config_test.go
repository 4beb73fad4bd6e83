package tests

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

func TestArchConfigs(t *testing.T) {
	report(t, unexcused(forgotten(program(t)), nil))
}

// forgotten finds the fields of exported structs named …Config that have no
// comment, neither of their own nor by name in that of the struct, and those
// that nothing ever reads: they were forgotten where the settings are used, or
// in withDefaults, which is no use. What the file's keys mean is in
// configs/REFERENCE.md, which a test there holds against the structs.
func forgotten(packages []*typed) []finding {
	var found []finding
	// By place, since other packages know a field from the build cache.
	read := map[string]bool{}
	for _, p := range packages {
		p.readFields(func(v *types.Var) { read[fieldKey(v)] = true })
	}
	for _, p := range packages {
		p.each(func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				return true
			}
			for _, spec := range d.Specs {
				spec := spec.(*ast.TypeSpec)
				s, ok := spec.Type.(*ast.StructType)
				if !ok || !spec.Name.IsExported() || !strings.HasSuffix(spec.Name.Name, "Config") {
					continue
				}
				doc := d.Doc.Text() + spec.Doc.Text()
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						what := spec.Name.Name + "." + name.Name
						if p.name() != "configs" && f.Doc == nil && f.Comment == nil && !strings.Contains(doc, name.Name) {
							found = append(found, p.find(name, what, "%s has no comment: say its default and unit", what))
						}
						if v := p.info.Defs[name].(*types.Var); name.IsExported() && !read[fieldKey(v)] {
							found = append(found, p.find(name, what, "%s is read by nothing", what))
						}
					}
				}
			}
			return false
		})
	}
	return found
}

// fieldKey tells a field apart in all packages: its package, name and type are
// enough for that in structs that are named alike once in a package.
func fieldKey(v *types.Var) string {
	return fmt.Sprint(v.Pkg().Path(), ".", v.Name(), " ", v.Type())
}

// readFields calls each with every field that is used other than to set it, and
// not in a function withDefaults.
func (p *typed) readFields(each func(*types.Var)) {
	for _, f := range p.files {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && slices.Contains([]string{"withDefaults", "setDefaults"}, d.Name.Name) {
				continue
			}
			set := map[ast.Expr]bool{}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for _, l := range n.Lhs {
						set[ast.Unparen(l)] = true
					}
				case *ast.SelectorExpr:
					if v, ok := p.info.Uses[n.Sel].(*types.Var); ok && v.IsField() && !set[n] {
						each(v)
					}
				}
				return true
			})
		}
	}
}

func TestArchConfigsBites(t *testing.T) {
	p := fixture(t, `package fixture

// ThingConfig is what a thing needs. Self must be set.
type ThingConfig struct {
	Self   int
	Used   int // default 7
	Bare   int
	Unread int // default 8
	OnlySet, OnlyDefault int // default 9
}

func (c ThingConfig) withDefaults() ThingConfig {
	if c.OnlyDefault == 0 {
		c.OnlyDefault = 9
	}
	return c
}

func use(c ThingConfig) int {
	c.OnlySet = 3
	return c.Self + c.Used + c.Bare
}
`)
	wantFindings(t, forgotten([]*typed{p}), "ThingConfig.Bare", "ThingConfig.Unread", "ThingConfig.OnlySet", "ThingConfig.OnlyDefault")
}
