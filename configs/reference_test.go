package configs_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/configs"
)

var update = flag.Bool("update", false, "write REFERENCE.md")

// TestReference holds REFERENCE.md to the schema: keys, types and defaults come
// from the structs, the meaning from their comments.
func TestReference(t *testing.T) {
	have, err := os.ReadFile("REFERENCE.md")
	if err != nil && !*update {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", "") // nothing of this machine gets into the page
	r := reference{meanings: meanings(t)}
	r.page()
	if bytes.Equal(have, r.out.Bytes()) {
		return
	}
	if !*update {
		t.Fatal("REFERENCE.md is not that of the schema: run go test ./configs -run TestReference -update")
	}
	if err := os.WriteFile("REFERENCE.md", r.out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine are the defaults that depend on the machine and the user.
var machine = map[string]string{
	"node.name":      "the host name",
	"node.state_dir": "`/var/lib/serialspan`; without root `$XDG_STATE_HOME/serialspan`",
	"control.socket": "`/run/serialspan/agent.sock`; without root `$XDG_RUNTIME_DIR/serialspan/agent.sock`",
}

// inRules are the defaults inside lists, which the loader fills in.
var inRules = map[string]string{
	"devices.rules[].name": "`{{.Node}}-{{.Kind}}`", "devices.rules[].line": "the profile's, else `115200n81`",
	"devices.rules[].kind": "the profile's, else `serial`", "devices.rules[].profile": "the device's",
	"devices.rules[].busy": "the profile's, else `kick`", "devices.rules[].max_stale": "the profile's, else `off`",
	"devices.rules[].hold":     "the profile's, else `" + configs.DefaultHold.String() + "`",
	"devices.rules[].rs485.on": "`false`", "devices.rules[].rs485.rts_on_send": "`on`", "devices.rules[].rs485.rts_after_send": "`off`",
	"devices.rules[].rs485.before_send": "`0s`", "devices.rules[].rs485.after_send": "`0s`",
	"devices.rules[].rs485.receive_during_send": "`false`", "devices.rules[].rs485.terminate": "`false`",
	"attachments[].pty.mode": "`0600`, with a group `0660`", "attachments[].line": "the device's",
	"attachments[].expose": "`false`",
}

type reference struct {
	meanings map[string]string // by "Type.Field"
	out      bytes.Buffer
}

func (r *reference) page() {
	r.out.WriteString(`# Configuration reference

<!-- Made from the schema by "go test ./configs -run TestReference -update"; do not edit. -->

The file is the one of ` + "`--config`, `$SERIALSPAN_CONFIG`, `./serialspan.yaml`, `~/.config/serialspan/serialspan.yaml`," + `
` + "`/etc/serialspan/serialspan.yaml`" + ` that is found first. The environment is stronger than the file, ` + "`serialspan agent --set KEY=VALUE`" + `
stronger than both. Lists of words are written with commas in the environment, lists of mappings as YAML in one line.
An unknown key is an error that names its line.

The file is watched. ` + "`devices.rules`, `cluster.nodes`, `cluster.admins`, `node.labels`, `attachments` and `log.level`" + ` change without a restart,
and ` + "`cluster.allow`" + ` may grow; for other keys ` + "`serialspan status`" + ` says that a restart is wanted. While the file is wrong the configuration from before
stays in force, and ` + "`serialspan status`" + ` shows what is wrong.
`)
	defaults := configs.Default()
	v := reflect.ValueOf(defaults)
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("mapstructure"); key != "-" {
			r.section(v.Type().Field(i), v.Field(i), key)
		}
	}
}

func (r *reference) section(field reflect.StructField, v reflect.Value, key string) {
	fmt.Fprintf(&r.out, "\n## %s\n\n", key)
	inner := field.Type
	if inner.Kind() == reflect.Slice {
		inner = inner.Elem()
		fmt.Fprintf(&r.out, "A list; `%s`. ", variable(key))
	}
	fmt.Fprintf(&r.out, "%s\n\n| key | type | default | environment | meaning |\n|---|---|---|---|---|\n", r.meanings[inner.Name()])
	if field.Type.Kind() == reflect.Slice {
		r.rows(inner, reflect.Value{}, key+"[].")
		return
	}
	r.rows(inner, v, key+".")
}

func (r *reference) rows(t reflect.Type, v reflect.Value, prefix string) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := prefix + field.Tag.Get("mapstructure")
		var value reflect.Value
		if v.IsValid() {
			value = v.Field(i)
		}
		elem := field.Type
		list := elem.Kind() == reflect.Slice && elem.Elem().Kind() == reflect.Struct && elem.Elem() != reflect.TypeFor[netip.AddrPort]()
		if list {
			elem = elem.Elem()
		}
		if !list && elem.Kind() == reflect.Struct {
			r.rows(elem, value, key+".")
			continue
		}
		env := "-"
		if !strings.Contains(key, "[]") {
			env = "`" + variable(key) + "`"
		}
		fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s | %s |\n", key, typeName(field), defaultText(key, value), env, r.meanings[t.Name()+"."+field.Name])
		if list {
			r.rows(elem, reflect.Value{}, key+"[].")
		}
	}
}

func variable(key string) string {
	return "SERIALSPAN_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func typeName(f reflect.StructField) string {
	if words := f.Tag.Get("oneof"); words != "" {
		return "`" + strings.ReplaceAll(words, " ", "`, `") + "`"
	}
	switch f.Type {
	case reflect.TypeFor[time.Duration]():
		return "duration: `15s`, `500ms`"
	case reflect.TypeFor[configs.Age]():
		return "duration, or `off`"
	case reflect.TypeFor[configs.FileMode]():
		return "octal"
	case reflect.TypeFor[[]netip.AddrPort]():
		return "list of IP:PORT"
	case reflect.TypeFor[[]string]():
		return "list"
	}
	switch f.Type.Kind() {
	case reflect.Slice:
		return "list of mappings"
	case reflect.Map:
		return "mapping"
	case reflect.Bool:
		return "`true`, `false`"
	}
	return "text"
}

func defaultText(key string, v reflect.Value) string {
	if text, ok := machine[key]; ok {
		return text
	}
	if text, ok := inRules[key]; ok {
		return text
	}
	if !v.IsValid() || v.IsZero() {
		return "empty"
	}
	switch value := v.Interface().(type) {
	case []string:
		return "`[" + strings.Join(value, ", ") + "]`"
	case map[string]string:
		return "empty"
	default:
		return fmt.Sprintf("`%v`", value)
	}
}

// meanings returns the comments of all types and fields, in one line each.
func meanings(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	line := func(groups ...*ast.CommentGroup) string {
		var words []string
		for _, g := range groups {
			words = append(words, strings.Fields(g.Text())...)
		}
		return strings.ReplaceAll(strings.Join(words, " "), "|", "\\|")
	}
	all := map[string]string{}
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range group.Specs {
			spec, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			all[spec.Name.Name] = line(group.Doc)
			for _, field := range body.Fields.List {
				for _, name := range field.Names {
					all[spec.Name.Name+"."+name.Name] = line(field.Doc, field.Comment)
				}
			}
		}
	}
	return all
}

// TestEveryFieldHasAMeaning: a key without a comment would be a row without a
// meaning.
func TestEveryFieldHasAMeaning(t *testing.T) {
	all := meanings(t)
	var walk func(v reflect.Type)
	walk = func(v reflect.Type) {
		for i := range v.NumField() {
			field := v.Field(i)
			elem := field.Type
			if elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct && elem.PkgPath() == v.PkgPath() {
				walk(elem)
			} else if field.Tag.Get("mapstructure") != "-" && all[v.Name()+"."+field.Name] == "" {
				t.Errorf("%s.%s has no comment", v.Name(), field.Name)
			}
		}
	}
	walk(reflect.TypeFor[configs.Config]())
}
