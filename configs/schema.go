package configs

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var (
	durationType        = reflect.TypeFor[time.Duration]()
	addrPortType        = reflect.TypeFor[netip.AddrPort]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// fieldKey returns the key of a struct field, "" if it has none in the file.
func fieldKey(f reflect.StructField) string {
	key := f.Tag.Get("mapstructure")
	if key == "-" {
		return ""
	}
	return key
}

// isText reports whether a type is written as one word that it parses itself.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textUnmarshalerType) }

// leaf is a key that holds a value and no further keys of fixed names.
type leaf struct {
	key   string // "node.state_dir"
	field reflect.StructField
	value reflect.Value
}

// variable returns the name of the leaf's environment variable.
func (l leaf) variable() string {
	return "SERIALSPAN_" + strings.ToUpper(strings.ReplaceAll(l.key, ".", "_"))
}

// leaves lists the leaves of a Config in the order of the schema.
func leaves(config Config) []leaf { return leavesOf(reflect.ValueOf(config), "") }

func leavesOf(v reflect.Value, prefix string) []leaf {
	var all []leaf
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := fieldKey(field)
		switch {
		case key == "":
		case field.Type.Kind() == reflect.Struct && !isText(field.Type):
			all = append(all, leavesOf(v.Field(i), prefix+key+".")...)
		default:
			all = append(all, leaf{key: prefix + key, field: field, value: v.Field(i)})
		}
	}
	return all
}

// walker turns YAML nodes into the plain values that the loader merges, and
// checks them against the Go type on the way.
type walker struct {
	*places
	source string
}

func (w *walker) place(n *yaml.Node) place { return place{w.source, n.Line} }

// value reads n as a t. It returns nil where n says nothing or is wrong; then
// the problem is noted.
func (w *walker) value(n *yaml.Node, t reflect.Type, key, oneof string) any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	w.at[key] = w.place(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	if t != durationType && !isText(t) {
		switch t.Kind() {
		case reflect.Struct:
			return w.mapping(n, t, key)
		case reflect.Map:
			return w.words(n, key)
		case reflect.Slice:
			return w.list(n, t.Elem(), key, oneof)
		}
	}
	if n.Kind != yaml.ScalarNode {
		w.add(w.place(n), key, "want one value, have %s", kindName(n))
		return nil
	}
	return w.scalar(n, t, key, oneof)
}

func (w *walker) mapping(n *yaml.Node, t reflect.Type, key string) any {
	if n.Kind != yaml.MappingNode {
		w.add(w.place(n), key, "want keys with values, have %s", kindName(n))
		return nil
	}
	fields := map[string]reflect.StructField{}
	var known []string
	for i := range t.NumField() {
		if k := fieldKey(t.Field(i)); k != "" {
			fields[k] = t.Field(i)
			known = append(known, k)
		}
	}
	out := map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		full := joinKey(key, name.Value)
		field, ok := fields[name.Value]
		switch {
		case !ok:
			w.add(w.place(name), full, "unknown key; %s", suggestion(name.Value, known))
		case seen[name.Value] > 0:
			w.add(w.place(name), full, "written twice, first in line %d; keep one", seen[name.Value])
		default:
			seen[name.Value] = name.Line
			if v := w.value(value, field.Type, full, field.Tag.Get("oneof")); v != nil {
				out[name.Value] = v
			}
		}
	}
	return out
}

func suggestion(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// words reads a mapping of free keys to strings (labels).
func (w *walker) words(n *yaml.Node, key string) any {
	if n.Kind != yaml.MappingNode {
		w.add(w.place(n), key, "want keys with values, have %s", kindName(n))
		return nil
	}
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		full := joinKey(key, name.Value)
		if _, twice := out[name.Value]; twice {
			w.add(w.place(name), full, "written twice; keep one")
			continue
		}
		if name.Value != strings.ToLower(name.Value) {
			// Lower case is what viper makes of keys: say so rather than change it.
			w.add(w.place(name), full, "write the key in lower case")
			continue
		}
		if v := w.value(value, reflect.TypeFor[string](), full, ""); v != nil {
			out[name.Value] = v
		}
	}
	return out
}

func (w *walker) list(n *yaml.Node, elem reflect.Type, key, oneof string) any {
	if n.Kind != yaml.SequenceNode {
		w.add(w.place(n), key, "want a list, have %s; write [ … ] or lines that begin with \"- \"", kindName(n))
		return nil
	}
	out := []any{}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		v := w.value(item, elem, at, oneof)
		if v == nil && item.Kind == yaml.ScalarNode && item.ShortTag() == "!!null" {
			w.add(w.place(item), at, "is empty; remove it")
		}
		out = append(out, v)
	}
	if slices.Contains(out, nil) {
		return nil // its problems are noted; without it the indices would shift
	}
	return out
}

func (w *walker) scalar(n *yaml.Node, t reflect.Type, key, oneof string) any {
	text := n.Value
	switch {
	case oneof != "":
		words := strings.Fields(oneof)
		for _, word := range words {
			if text == word {
				return text
			}
		}
		w.add(w.place(n), key, "%q is not supported; write %s", text, strings.Join(words, " or "))
		return nil
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || d > maxAge {
			w.add(w.place(n), key, "%q is no duration between 0 and 24h; write for example 15s or 500ms", text)
			return nil
		}
		return d
	case t == addrPortType:
		if _, err := netip.ParseAddrPort(text); err != nil {
			w.add(w.place(n), key, "%q is no IP:PORT; write for example 203.0.113.7:%d", text, DefaultPort)
			return nil
		}
		return text
	case isText(t):
		parsed := reflect.New(t)
		if err := parsed.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			w.add(w.place(n), key, "%v", err)
			return nil
		}
		return text
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			w.add(w.place(n), key, "%q is neither true nor false", text)
			return nil
		}
		return text == "true"
	}
	return text
}

func joinKey(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}
