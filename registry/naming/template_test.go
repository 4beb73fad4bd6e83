package naming_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/registry/naming"
)

func TestExpand(t *testing.T) {
	for _, row := range []struct{ template, want string }{
		{"{{.Node}}-{{.Kind}}", "garage-zwave"},
		{"{{ .Node }}.{{ .Kind }}.1", "garage.zwave.1"},
		{"door", "door"},
		{"a}}b", "a}}b"},
		{"", ""},
		{"{{.Node", ""},
		{"{{.Serial}}", ""},
		{"{{}}", ""},
		{"{{.node}}", ""},
	} {
		got, err := naming.Expand(row.template, "garage", "zwave")
		if got != row.want || (err != nil) != (row.want == "") || (err != nil && !errors.Is(err, naming.ErrTemplate)) {
			t.Errorf("Expand(%q) = %q, %v; want %q", row.template, got, err, row.want)
		}
	}
}

func TestValid(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, good := range []string{"a", "garage-zwave", "Shed.Generator_2", "0", long} {
		if !naming.Valid(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "-a", ".a", "_a", "a b", "a@b", "a/b", "ä", "a\n", long + "a"} {
		if naming.Valid(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}
